-- One row per day, for all entities: a row is known when its day's observation is.
SELECT
    event_timestamp,
    available_at,
    temp_max AS temp_max_1d,
    temp_min AS temp_min_1d,
    wind AS wind_1d,
    avg(temp_max) OVER week AS temp_max_7d,
    sum(precipitation) OVER week AS precipitation_7d
FROM silver.observations
WINDOW
    week AS (ORDER BY event_timestamp NULLS LAST RANGE BETWEEN INTERVAL 518400 SECONDS PRECEDING AND CURRENT ROW)
