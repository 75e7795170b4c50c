-- The highest temperature of a day, known the next morning.
SELECT day, temp_max AS label, event_timestamp, available_at
FROM silver.observations
