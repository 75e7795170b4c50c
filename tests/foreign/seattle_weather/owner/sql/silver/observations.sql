-- One row per day; it is known the next morning at six.
SELECT
    CAST(to_utc(replace(date, '/', '-')) AS DATE) AS day,
    TRY_CAST(temp_max AS DOUBLE) AS temp_max,
    TRY_CAST(temp_min AS DOUBLE) AS temp_min,
    TRY_CAST(precipitation AS DOUBLE) AS precipitation,
    TRY_CAST(wind AS DOUBLE) AS wind,
    weather,
    to_utc(replace(date, '/', '-') || 'T00:00:00Z') AS event_timestamp,
    to_utc(replace(date, '/', '-') || 'T00:00:00Z') + INTERVAL 108000 SECONDS AS available_at,
    source_file,
    source_row
FROM bronze.observations
