-- One row per flight that arrived: 1 if more than 15 minutes late. A cancelled or diverted flight never gets a label.
SELECT
    flight_id,
    CASE WHEN arr_delay > 15 THEN 1e0 ELSE 0e0 END AS label,
    event_timestamp,
    available_at
FROM silver.arrivals
