"""What is predicted for, and the feature views that describe it: `feature_sql/<name>.sql` holds each view's logic.

Put here one view per entity and subject: its keys, how long a value counts, and how far its query looks back.
"""

from datetime import timedelta

from ..lakehouse.feature_store import FeatureView

ENTITY_KEY = "item_id"

FEATURE_VIEWS = (
    FeatureView(
        name="kind_history",
        keys=("kind",),
        ttl=timedelta(days=7),
        lookback=timedelta(days=7),
        sources=("silver.outcomes",),
        description="What became of items of the same kind over the last week.",
    ),
)
