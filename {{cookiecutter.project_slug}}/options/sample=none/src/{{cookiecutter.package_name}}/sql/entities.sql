-- One row per item to predict, at the moment it becomes known, with what is known of it then.
-- Put here what you predict for: its key, when the prediction is due, and the columns that are known by that time.
SELECT
    item_id,
    available_at AS prediction_time,
    kind,
    amount,
    available_at
FROM silver.items
