"""What is predicted for, and the feature views that describe it."""

from datetime import timedelta

from mlplatform.contract import Entity, FeatureView

ENTITY = Entity(keys=("item_id",), description="One item.")

VIEWS = (
    FeatureView(
        name="kind_history",
        keys=("kind",),
        ttl=timedelta(days=7),
        lookback=timedelta(days=7),
        description="What became of items of the same kind over the last week.",
    ),
    FeatureView(
        name="kind_arrivals",
        keys=("kind",),
        ttl=timedelta(days=1),
        lookback=timedelta(days=1),
        description="How many items of the same kind became known in the last day.",
    ),
)

# What the model sees: columns of sql/entities.sql, and `<view>__<feature>` for what a view brings.
NUMERIC = (
    "amount",
    "kind_history__outcome_7d",
    "kind_history__outcomes_7d",
    "kind_arrivals__items_1d",
)
CATEGORICAL = ("kind",)
