-- One row per flight that arrived: its delay in minutes, negative if early. A cancelled or diverted flight never gets
-- a label.
SELECT
    flight_id,
    arr_delay AS label,
    event_timestamp,
    available_at
FROM silver.arrivals
