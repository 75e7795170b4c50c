-- One row per origin and hour. A delay is known once the aircraft has left, so it counts in the hour of the actual
-- departure: no row sees a flight still at the gate, except as one that was planned and has not left.
WITH events AS (
    SELECT
        origin,
        date_trunc('HOUR', available_at) AS hour,
        0e0 AS planned,
        1e0 AS departed,
        dep_delay,
        CASE WHEN dep_delay > 15 THEN 1e0 ELSE 0e0 END AS late
    FROM silver.departures
    UNION ALL
    -- A plan counts in the hour of its departure, or later if it became known later: an hour that is over never
    -- changes.
    SELECT
        origin,
        date_trunc('HOUR', greatest(scheduled_departure, available_at)) AS hour,
        1e0 AS planned,
        0e0 AS departed,
        0e0 AS dep_delay,
        0e0 AS late
    FROM silver.schedule
),

hourly AS (
    SELECT
        origin,
        hour,
        sum(planned) AS planned,
        sum(departed) AS departed,
        sum(dep_delay) AS dep_delay,
        sum(late) AS late
    FROM events
    GROUP BY origin, hour
)

SELECT
    origin,
    hour AS event_timestamp,
    hour + INTERVAL 3600 SECONDS AS available_at,
    departed AS departures_1h,
    dep_delay / nullif(departed, 0) AS dep_delay_1h,
    sum(dep_delay) OVER three_hours / nullif(sum(departed) OVER three_hours, 0) AS dep_delay_3h,
    sum(dep_delay) OVER day / nullif(sum(departed) OVER day, 0) AS dep_delay_24h,
    sum(late) OVER three_hours / nullif(sum(departed) OVER three_hours, 0) AS late_share_3h,
    sum(planned - departed) OVER three_hours AS backlog_3h
FROM hourly
-- A window of n hours is the hour itself and the n - 1 before it.
WINDOW
    three_hours AS (
        PARTITION BY origin ORDER BY hour NULLS LAST
        RANGE BETWEEN INTERVAL 7200 SECONDS PRECEDING AND CURRENT ROW
    ),
    day AS (
        PARTITION BY origin ORDER BY hour NULLS LAST
        RANGE BETWEEN INTERVAL 82800 SECONDS PRECEDING AND CURRENT ROW
    )
