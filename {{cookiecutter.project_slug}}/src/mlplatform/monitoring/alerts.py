"""From metrics to alerts, and from alerts to a decision to retrain. Both are pure functions of the tables."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import polars as pl

from mlplatform.config.sections import Rule
from mlplatform.storage import ops

KEYS = ops.KEYS[ops.ALERTS]
SCHEMA = pl.DataFrame(ops.SCHEMAS[ops.ALERTS].empty_table()).schema


class Alert(NamedTuple):
    """One row of `ops.alerts`."""

    rule: str
    column: str
    slice: str
    window_end: datetime
    value: float
    threshold: float
    raised_at: datetime
    action: str
    message: str


def evaluate(metrics: pl.DataFrame, rules: Iterable[Rule], as_of: datetime) -> pl.DataFrame:
    """Return every alert that the metrics known at `as_of` give, in the format of `ops.alerts`, oldest first.

    A window raises an alert for a rule, column and slice when it breaches and, with it, at least N of the
    last M windows do. A window in which the metric is missing counts as not breached. `raised_at` is when the
    window's metric became available, and only what was available by then is counted, so the alerts of a
    replay, of a later run and of a run that was repeated are the same rows: upsert them by `KEYS`, and notify
    about those that were not there.
    """
    known = metrics.filter(pl.col("available_at") <= as_of).sort("available_at", "model_version")
    known = known.unique(["metric", "column", "slice", "window_end"], keep="last", maintain_order=True)
    rows = [alert for rule in rules for alert in _alerts(known, rule)]
    return pl.DataFrame(rows, SCHEMA, orient="row").sort("raised_at", *KEYS)


def silent(metrics: pl.DataFrame, rules: Iterable[Rule]) -> list[str]:
    """Say which rules match no metric at all (a typo, a renamed feature): they can never fire."""
    return [
        f"rule {rule.name!r} watches nothing: no metric {rule.metric!r} for columns {', '.join(rule.columns)}"
        f" and slices {', '.join(rule.slices)}"
        for rule in rules
        if _watched(metrics, rule).is_empty()
    ]


def watches(rule: Rule, column: str, slice_: str = "all") -> bool:
    """Tell whether the rule looks at this column and slice."""
    return (
        _matches(column, rule.columns) and not _matches(column, rule.except_columns) and _matches(slice_, rule.slices)
    )


def retraining_due(
    alerts: pl.DataFrame, last_trained: datetime | None, cooldown: timedelta, as_of: datetime
) -> Alert | None:
    """Return the newest alert that asks for retraining and that no training has answered yet, or None.

    An alert is answered by a training later than the window it is about, and within `cooldown` of the last
    training (whether or not its model was accepted) none is due.
    """
    if last_trained is not None and as_of - last_trained < cooldown:
        return None
    due = alerts.filter(pl.col("action") == "retrain", pl.col("raised_at") <= as_of)
    if last_trained is not None:
        due = due.filter(pl.col("window_end") > last_trained)
    rows = due.select(SCHEMA.keys()).sort("raised_at", *KEYS, descending=[True, *[False] * len(KEYS)])
    return Alert(*rows.row(0)) if rows.height else None


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _watched(metrics: pl.DataFrame, rule: Rule) -> pl.DataFrame:
    of_metric = metrics.filter(pl.col("metric") == rule.metric)
    places = of_metric.select("column", "slice").unique()
    kept = [place for place in places.iter_rows() if watches(rule, *place)]
    return of_metric.join(pl.DataFrame(kept, places.schema, orient="row"), on=["column", "slice"], how="semi")


def _alerts(metrics: pl.DataFrame, rule: Rule) -> Iterator[Alert]:
    for (column, slice_), history in _watched(metrics, rule).partition_by("column", "slice", as_dict=True).items():
        breaches = [row for row in history.iter_rows(named=True) if _crossed(rule, row["value"]) is not None]
        for row in breaches:
            # Half a window of tolerance: windows of one calendar month differ in length.
            first = row["window_end"] - (rule.windows.of - 0.5) * (row["window_end"] - row["window_start"])
            count = sum(
                first < other["window_end"] <= row["window_end"] and other["available_at"] <= row["available_at"]
                for other in breaches
            )
            limit = _crossed(rule, row["value"])
            if limit is not None and count >= rule.windows.breached:
                yield Alert(
                    *(rule.name, column, slice_, row["window_end"], row["value"], limit, row["available_at"]),
                    *(rule.action, _message(rule, row, limit, count)),
                )


def _crossed(rule: Rule, value: float) -> float | None:
    """Return the limit that the value is beyond, or None."""
    if rule.above is not None and value > rule.above:
        return rule.above
    return rule.below if rule.below is not None and value < rule.below else None


def _message(rule: Rule, row: Mapping[str, Any], limit: float, count: int) -> str:
    place = " ".join([row["column"]] * bool(row["column"]) + [f"[{row['slice']}]"] * (row["slice"] != "all"))
    side = "above" if limit == rule.above else "below"
    # As many digits as it takes to tell the value from the limit.
    value, edge = next(pair for digits in (3, 6, 17) if len(set(pair := _numbers(digits, row["value"], limit))) == 2)
    often = f", {count} of the last {rule.windows.of} windows" if rule.windows.of > 1 else ""
    return (
        f"{f'{place}: ' if place else ''}{row['metric']} {value} is {side} {edge}"
        f" ({row['window_start']:%Y-%m-%d} to {row['window_end']:%Y-%m-%d}{often})"
    )


def _numbers(digits: int, *values: float) -> list[str]:
    return [f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}" for value in values]
