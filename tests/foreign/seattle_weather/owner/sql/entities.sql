-- The day after each observed one, forecast at six in the morning, when yesterday is known.
SELECT
    CAST(event_timestamp + INTERVAL 86400 SECONDS AS DATE) AS day,
    available_at AS prediction_time,
    CAST(month(available_at) AS DOUBLE) AS month,
    CASE
        WHEN month(available_at) IN (12, 1, 2) THEN 'winter'
        WHEN month(available_at) IN (3, 4, 5) THEN 'spring'
        WHEN month(available_at) IN (6, 7, 8) THEN 'summer'
        ELSE 'autumn'
    END AS season,
    sin(dayofyear(available_at) * 2 * pi() / 36525e-2) AS season_sin,
    cos(dayofyear(available_at) * 2 * pi() / 36525e-2) AS season_cos,
    available_at
FROM silver.observations
