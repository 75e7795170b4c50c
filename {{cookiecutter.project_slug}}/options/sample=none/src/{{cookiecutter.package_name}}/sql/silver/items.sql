-- One row per item. Put here, for each source, the typing of its text: bronze holds every value as it came.
SELECT
    item_id,
    kind,
    TRY_CAST(amount AS DOUBLE) AS amount,
    to_utc(published_at) AS event_timestamp,
    to_utc(published_at) AS available_at,
    source_file,
    source_row
FROM bronze.items
