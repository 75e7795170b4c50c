"""Delivery: how code and models get from a merge request to production, on a CI platform or by hand."""
