-- One row per kind and hour in which an outcome became known; available when the hour is over.
-- Put here one query per view, at one grain: aggregate to it first, then roll over that.
WITH hourly AS (
    SELECT
        kind,
        date_trunc('HOUR', available_at) AS hour,
        CAST(count(*) AS DOUBLE) AS outcomes,
        sum(outcome) AS outcome
    FROM silver.outcomes
    GROUP BY kind, date_trunc('HOUR', available_at)
)

SELECT
    kind,
    hour AS event_timestamp,
    hour + INTERVAL 3600 SECONDS AS available_at,
    sum(outcome) OVER week / nullif(sum(outcomes) OVER week, 0) AS outcome_7d,
    sum(outcomes) OVER week AS outcomes_7d
FROM hourly
-- A window of n hours is the hour itself and the n - 1 before it.
WINDOW
    week AS (
        PARTITION BY kind ORDER BY hour NULLS LAST
        RANGE BETWEEN INTERVAL 601200 SECONDS PRECEDING AND CURRENT ROW
    )
