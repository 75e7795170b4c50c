"""A server and a stream on the dashboard, and the metrics that monitoring has of a server."""

from collections.abc import Mapping
from typing import Any

MEASURED = (
    *("requests", "requests_per_second", "refused_share", "failed_share"),
    *("latency_p50", "latency_p99", "stale_share"),
)


def charts(series: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The charts for which there are values: a title, and metric and column of each line."""
    known = (
        ("Requests a second", [("requests_per_second", "serve")]),
        ("Latency in seconds: 99th percentile, median grey", [("latency_p99", "serve"), ("latency_p50", "serve")]),
        ("Share of requests that failed, refused ones grey", [("failed_share", "serve"), ("refused_share", "serve")]),
        ("Share of rows with a stale feature", [("stale_share", "serve")]),
        ("Age of the online features in seconds", [("freshness_seconds", "online")]),
        ("Lag of the stream in seconds", [("lag_seconds", "stream")]),
        ("Rows a second of the stream", [("rows_per_second", "stream")]),
        ("Seconds of a micro-batch", [("run_seconds", "stream")]),
    )
    found = [(title, [line for line in lines if line[1] in series.get(line[0], {})]) for title, lines in known]
    return [{"title": title, "lines": lines} for title, lines in found if lines]
