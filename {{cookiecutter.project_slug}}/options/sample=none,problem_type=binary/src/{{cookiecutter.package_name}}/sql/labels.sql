-- One row per item with an outcome: 1 if it is positive. Known when the outcome is.
-- Put here what the model is to learn: the key, the label 0 or 1, when it happened and when it became known.
SELECT
    item_id,
    CASE WHEN outcome > 0 THEN 1e0 ELSE 0e0 END AS label,
    event_timestamp,
    available_at
FROM silver.outcomes
