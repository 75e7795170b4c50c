-- One row per kind and hour in which an item became known; available when the hour is over.
WITH hourly AS (
    SELECT
        kind,
        date_trunc('HOUR', available_at) AS hour,
        CAST(count(*) AS DOUBLE) AS items
    FROM silver.items
    GROUP BY kind, date_trunc('HOUR', available_at)
)

SELECT
    kind,
    hour AS event_timestamp,
    hour + INTERVAL 3600 SECONDS AS available_at,
    sum(items) OVER day AS items_1d
FROM hourly
-- A window of n hours is the hour itself and the n - 1 before it.
WINDOW
    day AS (
        PARTITION BY kind ORDER BY hour NULLS LAST
        RANGE BETWEEN INTERVAL 82800 SECONDS PRECEDING AND CURRENT ROW
    )
