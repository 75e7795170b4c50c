"""The columns that the model sees, as the joined frames name them, and the slices in which it is judged.

Put here names out of `entities.sql`, and `<view>__<feature>` for what a feature view brings.
"""

NUMERIC = (
    "amount",
    "kind_history__outcome_7d",
    "kind_history__outcomes_7d",
)
CATEGORICAL = ("kind",)
SLICES = ("kind",)
