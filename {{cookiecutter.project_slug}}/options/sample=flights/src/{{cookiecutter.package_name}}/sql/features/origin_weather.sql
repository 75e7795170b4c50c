-- One row per origin and hour of observation, available when it was published. No gust reported means no gust.
SELECT
    origin,
    event_timestamp,
    available_at,
    temp,
    dewp,
    humid,
    wind_dir,
    wind_speed,
    wind_gust,
    precip,
    pressure,
    visib
FROM silver.weather
