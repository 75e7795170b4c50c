-- The finding, known with the sample.
SELECT sample_id, benign AS label, event_timestamp, available_at
FROM silver.samples
