"""Watching the model in use: drift, delayed-label performance, pipeline health, alerts and the dashboard."""
