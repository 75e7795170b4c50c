"""The columns that the model sees, as the joined frames name them, and the slices in which it is judged."""

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
SLICES = ("origin", "carrier")
