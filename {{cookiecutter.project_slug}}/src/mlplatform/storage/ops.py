"""The tables that the platform keeps for itself: `ops.*` and `monitoring.*`, each with its columns and keys."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

RUNS = "ops.runs"  # one row per run of a pipeline, as its last act
FILES = "ops.files"  # which landing files have been read
QUARANTINE = "quarantine."  # and the name of a source or a Silver table: rows refused, with the reason
TRANSITIONS = "ops.transitions"  # stages of model versions, requested and decided
COMPARISONS = "ops.comparisons"  # challengers against champions (or `baseline`), in a rollout or not
RELEASES = "ops.releases"  # the commits that an environment runs
REQUESTS = "ops.requests"  # how a server answered, counted for about a minute at a time
FORGOTTEN = "ops.forgotten"  # what was to be forgotten, without the values
ALERTS = "ops.alerts"
METRICS = "monitoring.metrics"

TEXT, WHOLE, NUMBER, FLAG, TIME = pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("us")

KEYS = {
    TRANSITIONS: ("model", "version", "from_stage", "to_stage", "requested_at"),
    RELEASES: ("as_of",),
    REQUESTS: ("tally", "status"),
    FORGOTTEN: ("request",),
    ALERTS: ("rule", "column", "slice", "window_end"),
}
SCHEMAS = {
    RUNS: pa.schema(
        {
            **{"run_id": TEXT, "pipeline": TEXT, "as_of": TIME, "started_at": TIME, "seconds": NUMBER},
            **{"rows": WHOLE, "status": TEXT, "error": TEXT, "code": TEXT},
            **{"lag_seconds": NUMBER},  # how long the oldest event of a micro-batch had waited
        }
    ),
    FILES: pa.schema(
        {
            **{"source_file": TEXT, "landed_at": TIME, "rows": WHOLE, "malformed": WHOLE, "error": TEXT},
            **{"size": WHOLE, "digest": TEXT, "modified": TIME},
        }
    ),
    QUARANTINE: pa.schema(
        {"source_file": TEXT, "source_row": WHOLE, "reason": TEXT, "raw": TEXT, "available_at": TIME},
    ),
    TRANSITIONS: pa.schema(
        {
            **{"model": TEXT, "version": WHOLE, "from_stage": TEXT, "to_stage": TEXT, "status": TEXT},
            **{"requested_at": TIME, "requested_by": TEXT, "request_reason": TEXT},
            **{"closed_at": TIME, "closed_by": TEXT, "reason": TEXT, "recorded_at": TIME},
        }
    ),
    COMPARISONS: pa.schema(
        {
            **{"model": TEXT, "challenger": WHOLE, "champion": TEXT, "window_start": TIME, "window_end": TIME},
            **{"metric": TEXT, "challenger_score": NUMBER, "champion_score": NUMBER, "difference": NUMBER},
            **{"low": NUMBER, "high": NUMBER, "margin": NUMBER, "accepted": FLAG, "reason": TEXT, "as_of": TIME},
            "rollout": TEXT,
        }
    ),
    RELEASES: pa.schema({"as_of": TIME, "code": TEXT, "commit": TEXT}),
    REQUESTS: pa.schema({"tally": TEXT, "until": TIME, "status": WHOLE, "requests": WHOLE, "seconds": NUMBER}),
    FORGOTTEN: pa.schema(
        {
            **{"request": TEXT, "as_of": TIME, "columns": TEXT, "tables": TEXT, "files": WHOLE, "versions": TEXT},
            **{"requested_by": TEXT, "reason": TEXT, "status": TEXT, "mark": TEXT, "history_until": TIME},
            **{"recorded_at": TIME},
        }
    ),
    ALERTS: pa.schema(
        {
            **{"rule": TEXT, "column": TEXT, "slice": TEXT, "window_end": TIME, "value": NUMBER},
            **{"threshold": NUMBER, "raised_at": TIME, "action": TEXT, "message": TEXT},
        }
    ),
    METRICS: pa.schema(
        {
            **{"window_start": TIME, "window_end": TIME, "metric": TEXT, "column": TEXT, "slice": TEXT},
            **{"value": NUMBER, "model_version": WHOLE, "available_at": TIME},
        }
    ),
}


def rows(name: str, values: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows of one of these tables."""
    return pa.Table.from_pylist(list(values), SCHEMAS[name])


def now() -> datetime:
    """The time on this machine's clock, naive UTC as all times in tables are."""
    return datetime.now(UTC).replace(tzinfo=None)
