"""Fitting a model: tuning, evaluation, and the record that MLflow keeps of it."""
