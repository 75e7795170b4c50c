-- One row per flight that left its gate; known at that moment.
SELECT
    carrier || flight || '-'
    || substr(replace(replace(CAST(TRY_CAST(time_hour AS TIMESTAMP) AS STRING), '-', ''), ' ', ''), 1, 10) AS flight_id,
    carrier,
    flight,
    origin,
    dest,
    TRY_CAST(time_hour AS TIMESTAMP) AS time_hour,
    TRY_CAST(dep_delay AS DOUBLE) AS dep_delay,
    TRY_CAST(published_at AS TIMESTAMP) AS event_timestamp,
    TRY_CAST(published_at AS TIMESTAMP) AS available_at,
    source_file,
    source_row
FROM bronze.departures
