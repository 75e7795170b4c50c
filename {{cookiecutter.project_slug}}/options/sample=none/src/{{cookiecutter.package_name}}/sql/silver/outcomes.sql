-- One row per item whose outcome is known. It is known later than the item, hence the table of its own.
SELECT
    item_id,
    kind,
    TRY_CAST(outcome AS DOUBLE) AS outcome,
    to_utc(published_at) AS event_timestamp,
    to_utc(published_at) AS available_at,
    source_file,
    source_row
FROM bronze.outcomes
