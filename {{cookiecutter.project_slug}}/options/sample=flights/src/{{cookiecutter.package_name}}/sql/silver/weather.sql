-- One row per origin and hour of observation. `time_hour` (UTC) is the time to trust: on the night the clocks go back
-- the local hour 1 comes twice, so year, month, day and hour stay behind in Bronze.
-- A value may be missing; text that is no number becomes NaN, which no range allows, so that the contract sees it.
SELECT
    origin,
    to_utc(time_hour) AS event_timestamp,
    to_utc(published_at) AS available_at,
    coalesce(TRY_CAST(temp AS DOUBLE), CASE WHEN trim(temp) <> '' THEN CAST('NaN' AS DOUBLE) END) AS temp,
    coalesce(TRY_CAST(dewp AS DOUBLE), CASE WHEN trim(dewp) <> '' THEN CAST('NaN' AS DOUBLE) END) AS dewp,
    coalesce(TRY_CAST(humid AS DOUBLE), CASE WHEN trim(humid) <> '' THEN CAST('NaN' AS DOUBLE) END) AS humid,
    coalesce(TRY_CAST(wind_dir AS DOUBLE), CASE WHEN trim(wind_dir) <> '' THEN CAST('NaN' AS DOUBLE) END) AS wind_dir,
    coalesce(TRY_CAST(wind_speed AS DOUBLE), CASE WHEN trim(wind_speed) <> '' THEN CAST('NaN' AS DOUBLE) END) AS wind_speed,
    coalesce(TRY_CAST(wind_gust AS DOUBLE), CASE WHEN trim(wind_gust) <> '' THEN CAST('NaN' AS DOUBLE) END) AS wind_gust,
    coalesce(TRY_CAST(precip AS DOUBLE), CASE WHEN trim(precip) <> '' THEN CAST('NaN' AS DOUBLE) END) AS precip,
    coalesce(TRY_CAST(pressure AS DOUBLE), CASE WHEN trim(pressure) <> '' THEN CAST('NaN' AS DOUBLE) END) AS pressure,
    coalesce(TRY_CAST(visib AS DOUBLE), CASE WHEN trim(visib) <> '' THEN CAST('NaN' AS DOUBLE) END) AS visib,
    source_file,
    source_row
FROM bronze.weather
