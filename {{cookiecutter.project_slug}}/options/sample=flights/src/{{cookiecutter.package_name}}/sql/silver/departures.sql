-- One row per flight that left its gate; known at that moment.
SELECT
    carrier || flight || '-'
    || substr(replace(replace(CAST(to_utc(time_hour) AS STRING), '-', ''), ' ', ''), 1, 10) AS flight_id,
    carrier,
    flight,
    origin,
    dest,
    to_utc(time_hour) AS time_hour,
    TRY_CAST(dep_delay AS DOUBLE) AS dep_delay,
    to_utc(published_at) AS event_timestamp,
    to_utc(published_at) AS available_at,
    source_file,
    source_row
FROM bronze.departures
