-- One row per flight that reached its destination; known once it had taxied to the gate.
SELECT
    carrier || flight || '-'
    || substr(replace(replace(CAST(to_utc(time_hour) AS STRING), '-', ''), ' ', ''), 1, 10) AS flight_id,
    carrier,
    flight,
    origin,
    dest,
    to_utc(time_hour) AS time_hour,
    TRY_CAST(arr_delay AS DOUBLE) AS arr_delay,
    TRY_CAST(air_time AS DOUBLE) AS air_time,
    to_utc(published_at) AS event_timestamp,
    to_utc(published_at) AS available_at,
    source_file,
    source_row
FROM bronze.arrivals
