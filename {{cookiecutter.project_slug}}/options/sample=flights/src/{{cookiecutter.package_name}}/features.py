"""What is predicted for, and the feature views that describe it: `sql/features/<name>.sql` holds each view's logic."""

from datetime import timedelta

from mlplatform.contract import Entity, FeatureView

ENTITY = Entity(keys=("flight_id",), description="One flight of the schedule.")

VIEWS = (
    FeatureView(
        name="origin_weather",
        keys=("origin",),
        ttl=timedelta(hours=6),
        lookback=timedelta(0),
        description="The last weather observed at the airport of origin.",
    ),
    FeatureView(
        name="origin_congestion",
        keys=("origin",),
        ttl=timedelta(hours=12),
        # Three hours of plans, each published a day before the departure.
        lookback=timedelta(hours=3 + 24),
        description="Departures, delays and flights still waiting at the airport of origin, over 1, 3 and 24 hours.",
    ),
    FeatureView(
        name="carrier_delays",
        keys=("carrier",),
        ttl=timedelta(days=7),
        lookback=timedelta(days=7),
        description="How late the carrier's flights arrived over the last day and week.",
    ),
    FeatureView(
        name="route_delays",
        keys=("origin", "dest"),
        ttl=timedelta(days=7),
        lookback=timedelta(days=7),
        description="How late flights on the same route arrived over the last day and week.",
    ),
)

# What the model sees: columns of sql/entities.sql, and `<view>__<feature>` for what a view brings.
NUMERIC = (
    "local_hour",
    "day_of_week",
    "distance",
    "origin_weather__temp",
    "origin_weather__dewp",
    "origin_weather__humid",
    "origin_weather__wind_dir",
    "origin_weather__wind_speed",
    "origin_weather__wind_gust",
    "origin_weather__precip",
    "origin_weather__pressure",
    "origin_weather__visib",
    "origin_congestion__departures_1h",
    "origin_congestion__dep_delay_1h",
    "origin_congestion__dep_delay_3h",
    "origin_congestion__dep_delay_24h",
    "origin_congestion__late_share_3h",
    "origin_congestion__backlog_3h",
    "carrier_delays__arr_delay_1d",
    "carrier_delays__late_share_1d",
    "carrier_delays__arr_delay_7d",
    "carrier_delays__late_share_7d",
    "route_delays__arr_delay_1d",
    "route_delays__late_share_1d",
    "route_delays__arr_delay_7d",
    "route_delays__late_share_7d",
    "route_delays__arrivals_7d",
)
CATEGORICAL = ("origin", "dest", "carrier")
