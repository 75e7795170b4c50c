-- One row per item. Bronze holds every value as it came.
SELECT
    item_id,
    kind,
    TRY_CAST(amount AS DOUBLE) AS amount,
    TRY_CAST(published_at AS TIMESTAMP) AS event_timestamp,
    TRY_CAST(published_at AS TIMESTAMP) AS available_at,
    source_file,
    source_row
FROM bronze.items
