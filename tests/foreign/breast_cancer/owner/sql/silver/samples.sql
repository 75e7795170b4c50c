-- One row per sample, known when the snapshot landed.
SELECT
    sample_id,
    TRY_CAST(benign AS DOUBLE) AS benign,
    TRY_CAST(radius AS DOUBLE) AS radius,
    TRY_CAST(texture AS DOUBLE) AS texture,
    TRY_CAST(perimeter AS DOUBLE) AS perimeter,
    TRY_CAST(area AS DOUBLE) AS area,
    TRY_CAST(smoothness AS DOUBLE) AS smoothness,
    TRY_CAST(compactness AS DOUBLE) AS compactness,
    TRY_CAST(concavity AS DOUBLE) AS concavity,
    TRY_CAST(symmetry AS DOUBLE) AS symmetry,
    landed_at AS event_timestamp,
    landed_at AS available_at,
    source_file,
    source_row
FROM bronze.samples
