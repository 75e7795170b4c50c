"""Streaming inference: events are prepared, featurized and scored as they come, with the SQL and the model of batch."""
