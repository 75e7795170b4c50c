"""Promotion: how a model that another environment has accepted gets here, within one MLflow store or between two."""
