"""The entity is a day to come; the features are the days before it, the same for every entity."""

from datetime import timedelta

from mlplatform.contract import Entity, FeatureView

ENTITY = Entity(keys=("day",), description="A day whose highest temperature is forecast at six in the morning.")

VIEWS = (
    FeatureView(
        name="past_days",
        keys=(),
        ttl=timedelta(days=3),
        lookback=timedelta(days=8),
        description="Temperatures, rain and wind of the last day and week.",
    ),
)

COLUMNS = (
    "season_sin",
    "season_cos",
    "past_days__temp_max_1d",
    "past_days__temp_max_7d",
    "past_days__temp_min_1d",
    "past_days__precipitation_7d",
    "past_days__wind_1d",
)
