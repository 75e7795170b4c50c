-- One row per flight, as planned a day ahead. Clocks are local: New York's at the origin, unknown at the destination.
WITH parsed AS (
    SELECT
        *,
        to_utc(time_hour) AS hour,
        -- 00:05 comes as 5: one to four digits.
        lpad(nullif(trim(sched_dep_time), ''), 4, '0') AS departs,
        lpad(nullif(trim(sched_arr_time), ''), 4, '0') AS arrives
    FROM bronze.schedule
),

local_time AS (
    SELECT
        *,
        -- Text without a zone stays as it is.
        to_utc(
            year || '-' || lpad(month, 2, '0') || '-' || lpad(day, 2, '0') || ' '
            || substr(departs, 1, 2) || ':' || substr(departs, 3, 2) || ':00'
        ) AS local_departure
    FROM parsed
),

utc AS (
    SELECT *, to_utc_timestamp(local_departure, 'America/New_York') AS departure
    FROM local_time
),

-- Made from the local clock, not from time_hour, so that the contract compares two statements of one moment. When the
-- clocks go back 01:30 comes twice: to_utc_timestamp means the first, and only time_hour can say that it is the second.
resolved AS (
    SELECT
        *,
        CASE
            WHEN
                date_trunc('HOUR', departure) < hour
                AND from_utc_timestamp(departure + INTERVAL 3600 SECONDS, 'America/New_York') = local_departure
                THEN departure + INTERVAL 3600 SECONDS
            ELSE departure
        END AS scheduled_departure
    FROM utc
)

SELECT
    carrier || flight || '-' || substr(replace(replace(CAST(hour AS STRING), '-', ''), ' ', ''), 1, 10) AS flight_id,
    carrier,
    flight,
    nullif(trim(tailnum), '') AS tailnum,
    origin,
    dest,
    TRY_CAST(distance AS DOUBLE) AS distance,
    hour AS time_hour,
    scheduled_departure,
    -- Earlier than the departure on the clock means the next day, or a zone to the west: both are normal.
    substr(arrives, 1, 2) || ':' || substr(arrives, 3, 2) AS scheduled_arrival_clock,
    scheduled_departure AS event_timestamp,
    to_utc(published_at) AS available_at,
    source_file,
    source_row
FROM resolved
