-- One row per flight that reached its destination; known once it had taxied to the gate.
SELECT
    carrier || flight || '-'
    || substr(replace(replace(CAST(TRY_CAST(time_hour AS TIMESTAMP) AS STRING), '-', ''), ' ', ''), 1, 10) AS flight_id,
    carrier,
    flight,
    origin,
    dest,
    TRY_CAST(time_hour AS TIMESTAMP) AS time_hour,
    TRY_CAST(arr_delay AS DOUBLE) AS arr_delay,
    TRY_CAST(air_time AS DOUBLE) AS air_time,
    TRY_CAST(published_at AS TIMESTAMP) AS event_timestamp,
    TRY_CAST(published_at AS TIMESTAMP) AS available_at,
    source_file,
    source_row
FROM bronze.arrivals
