"""The life of a model: versions, stages, compliance checks, comparison, approval, audit."""
