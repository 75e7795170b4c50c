-- One row per flight that arrived: more than 15 minutes early, more than 15 minutes late, or on time. A cancelled or
-- diverted flight never gets a label.
SELECT
    flight_id,
    CASE WHEN arr_delay < -15 THEN 'early' WHEN arr_delay > 15 THEN 'late' ELSE 'on_time' END AS label,
    event_timestamp,
    available_at
FROM silver.arrivals
