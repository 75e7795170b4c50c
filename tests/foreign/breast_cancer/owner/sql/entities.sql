-- One row per sample; without a time of its own it counts from when the snapshot landed.
SELECT
    sample_id,
    available_at AS prediction_time,
    radius,
    texture,
    perimeter,
    area,
    smoothness,
    compactness,
    concavity,
    symmetry,
    available_at
FROM silver.samples
