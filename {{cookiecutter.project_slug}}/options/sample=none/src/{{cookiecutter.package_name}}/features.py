"""What is predicted for, and the feature views that describe it: `sql/features/<name>.sql` holds each view's logic.

Put here one view per subject: its keys, how long a value counts, and how far back its query looks.
"""

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
)

# What the model sees: columns of sql/entities.sql, and `<view>__<feature>` for what a view brings.
NUMERIC = (
    "amount",
    "kind_history__outcome_7d",
    "kind_history__outcomes_7d",
)
CATEGORICAL = ("kind",)
