-- One row per item with an outcome, which is the label. Known when the outcome is.
-- Put here what the model is to learn: the key, the number, when it happened and when it became known.
SELECT
    item_id,
    outcome AS label,
    event_timestamp,
    available_at
FROM silver.outcomes
