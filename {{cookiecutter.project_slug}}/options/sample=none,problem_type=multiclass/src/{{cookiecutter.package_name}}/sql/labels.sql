-- One row per item with an outcome: whether it is low, in the middle or high. Known when the outcome is.
-- Put here what the model is to learn: the keys, one of the classes, when it happened and when it became known.
SELECT
    item_id,
    CASE WHEN outcome < -20 THEN 'low' WHEN outcome > 20 THEN 'high' ELSE 'middle' END AS label,
    event_timestamp,
    available_at
FROM silver.outcomes
