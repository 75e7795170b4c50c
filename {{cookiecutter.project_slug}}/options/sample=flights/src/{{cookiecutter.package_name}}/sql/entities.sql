-- One row per flight to predict, two hours before it is due to leave, with what its schedule says. People fly by the
-- local clock, so hour and weekday are New York's. The month is left out: a year of data shows each month once.
SELECT
    flight_id,
    scheduled_departure - INTERVAL 7200 SECONDS AS prediction_time,
    scheduled_departure,
    origin,
    dest,
    carrier,
    tailnum,
    CAST(hour(from_utc_timestamp(scheduled_departure, 'America/New_York')) AS DOUBLE) AS local_hour,
    -- 1 is Sunday.
    CAST(dayofweek(from_utc_timestamp(scheduled_departure, 'America/New_York')) AS DOUBLE) AS day_of_week,
    distance,
    available_at
FROM silver.schedule
