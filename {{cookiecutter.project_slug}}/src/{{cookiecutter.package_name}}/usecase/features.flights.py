"""What is predicted for, and the feature views that describe it: `feature_sql/<name>.sql` holds each view's logic."""

from datetime import timedelta

from ..lakehouse.feature_store import FeatureView

ENTITY_KEY = "flight_id"

FEATURE_VIEWS = (
    FeatureView(
        name="origin_weather",
        keys=("origin",),
        ttl=timedelta(hours=6),
        lookback=timedelta(0),
        sources=("silver.weather",),
        description="The last weather observed at the airport of origin.",
    ),
    FeatureView(
        name="origin_congestion",
        keys=("origin",),
        ttl=timedelta(hours=12),
        # Three hours of plans, each published a day before the departure.
        lookback=timedelta(hours=3 + 24),
        sources=("silver.schedule", "silver.departures"),
        description="Departures, delays and flights still waiting at the airport of origin, over 1, 3 and 24 hours.",
    ),
    FeatureView(
        name="carrier_delays",
        keys=("carrier",),
        ttl=timedelta(days=7),
        lookback=timedelta(days=7),
        sources=("silver.arrivals",),
        description="How late the carrier's flights arrived over the last day and week.",
    ),
    FeatureView(
        name="route_delays",
        keys=("origin", "dest"),
        ttl=timedelta(days=7),
        lookback=timedelta(days=7),
        sources=("silver.arrivals",),
        description="How late flights on the same route arrived over the last day and week.",
    ),
)
