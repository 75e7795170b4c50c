-- One row per route and hour in which one of its flights reached the gate: only then is its delay known.
WITH hourly AS (
    SELECT
        origin,
        dest,
        date_trunc('HOUR', available_at) AS hour,
        CAST(count(*) AS DOUBLE) AS arrivals,
        sum(arr_delay) AS arr_delay,
        sum(CASE WHEN arr_delay > 15 THEN 1e0 ELSE 0e0 END) AS late
    FROM silver.arrivals
    GROUP BY origin, dest, date_trunc('HOUR', available_at)
)

SELECT
    origin,
    dest,
    hour AS event_timestamp,
    hour + INTERVAL 3600 SECONDS AS available_at,
    sum(arr_delay) OVER day / nullif(sum(arrivals) OVER day, 0) AS arr_delay_1d,
    sum(late) OVER day / nullif(sum(arrivals) OVER day, 0) AS late_share_1d,
    sum(arr_delay) OVER week / nullif(sum(arrivals) OVER week, 0) AS arr_delay_7d,
    sum(late) OVER week / nullif(sum(arrivals) OVER week, 0) AS late_share_7d,
    sum(arrivals) OVER week AS arrivals_7d
FROM hourly
-- A window of n hours is the hour itself and the n - 1 before it.
WINDOW
    day AS (
        PARTITION BY origin, dest ORDER BY hour NULLS LAST
        RANGE BETWEEN INTERVAL 82800 SECONDS PRECEDING AND CURRENT ROW
    ),
    week AS (
        PARTITION BY origin, dest ORDER BY hour NULLS LAST
        RANGE BETWEEN INTERVAL 601200 SECONDS PRECEDING AND CURRENT ROW
    )
