-- What the writer meant, known with the scan.
SELECT image_id, digit AS label, event_timestamp, available_at
FROM silver.scans
