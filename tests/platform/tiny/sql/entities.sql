-- One row per item to predict, at the moment it becomes known, with what is known of it then.
SELECT
    item_id,
    available_at AS prediction_time,
    kind,
    amount,
    available_at
FROM silver.items
