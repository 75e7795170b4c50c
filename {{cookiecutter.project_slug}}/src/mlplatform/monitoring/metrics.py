"""The rows of `monitoring.metrics`, one window at a time.

Every function here is pure: frames in, rows out, in the long format of `SCHEMA`. `available_at` is logical as
well (the end of the window, or that plus the label delay), so computing a window late or again gives the same
rows. Memory is bounded by one window of predictions; of inputs and reference one column is read at a time.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from math import inf, isfinite
from typing import Any, NamedTuple

import polars as pl
from numpy.typing import NDArray

from mlplatform.config.sections import MonitoringSettings
from mlplatform.contract import Project
from mlplatform.monitoring import drift
from mlplatform.storage import ops
from mlplatform.storage.catalog import Span, option

SCHEMA = pl.DataFrame(ops.SCHEMAS[ops.METRICS].empty_table()).schema
# What this module measures itself; any other metric in the table is one of the use case's performance scores.
DRIFT = tuple(dict.fromkeys(drift.NUMERIC + drift.CATEGORICAL))
OTHER = (
    *("rows", "freshness_seconds", "missing_rate", "label_coverage", "late_share", "confusion"),
    *("runs", "failed_runs", "run_seconds", "rows_per_second", "lag_seconds"),
    *(option("mlplatform.monitoring.service:MEASURED") or ()),
)
WAYS = ("batch", "streaming", "online")  # of an entity that several have scored, the first one's prediction counts
EPOCH = datetime(2000, 1, 3)  # a Monday: windows of whole weeks start on Mondays


class Volume(NamedTuple):
    """How many rows a table gained in a window, and its newest event up to the window's end."""

    rows: int
    newest: datetime | None


class Part(NamedTuple):
    """Predictions measured together: their slice (see `parts`), their version, and how many each stands for."""

    name: str = "all"
    version: int | None = None
    weight: float = 1.0


ALL = Part()


def windows(length: timedelta, since: datetime, until: datetime) -> Iterator[Span]:
    """Yield, in order, the windows of the fixed grid that end in (since, until]."""
    end = EPOCH + ((since - EPOCH) // length + 1) * length
    while end <= until:
        yield Span(end - length, end)
        end += length


def volumes(window: Span, tables: Mapping[str, Volume]) -> pl.DataFrame:
    """Return `rows` and `freshness_seconds` (newest event to the window's end) of each named table."""
    rows = [("rows", name, "all", float(volume.rows)) for name, volume in tables.items()]
    for name, volume in tables.items():
        if volume.newest is not None:
            rows.append(("freshness_seconds", name, "all", (window.end - volume.newest).total_seconds()))
    return rows_of(window, rows, None, window.end)


def parts(frame: pl.DataFrame, keys: Sequence[str]) -> Iterator[tuple[str, pl.DataFrame]]:
    """What is measured of predictions, each under the name of a slice.

    `all`: each entity once, however often and by which ways it was scored; of requests the newest counts. Where more
    than batch has scored, each way has all of its own as `inference=<way>`. What a challenger has answered in a rollout
    is a part of its own, `variant=challenger`, and nowhere else. `frame` has the columns `inference` and `variant`.
    """
    champions = frame.filter(pl.col("variant") == "champion")
    ways = [way for way in WAYS if way in set(champions["inference"])]
    if set(frame["inference"]) <= {"batch"}:
        yield "all", champions
        return
    place = pl.col("inference").replace_strict({way: number for number, way in enumerate(WAYS)})
    ordered = champions.sort(place, "prediction_time", descending=[False, True], maintain_order=True)
    yield "all", ordered.unique(keys, keep="first", maintain_order=True)
    for way in ways:
        yield f"inference={way}", champions.filter(pl.col("inference") == way)
    if champions.height < frame.height:
        yield "variant=challenger", frame.filter(pl.col("variant") == "challenger")


def inputs(
    window: Span,
    frame: pl.DataFrame | pl.LazyFrame,
    reference: pl.DataFrame | pl.LazyFrame | None,
    settings: MonitoringSettings,
    slices: Sequence[str],
    watched: Sequence[str],
    part: Part = ALL,
) -> pl.DataFrame:
    """Return what is known of a window's predictions at its end: counts, missing rates and drift.

    `frame` has one row per prediction with the columns `watched` (features and scores) and `slices`; `reference`
    holds the watched ones as the version of `part` saw them in training, and None gives no drift. Slices are those of
    all rows. Raises ColumnNotFoundError for a missing column.
    """
    height = _column(frame, watched[0]).len()
    counts = [(part.name, height)]
    for name in slices if part.name == "all" else ():
        groups = frame.lazy().group_by(name).len().collect().rows()
        counts += [(_slice(name, value), count) for value, count in sorted(groups, key=str)]
    rows = [("rows", "", name, float(round(count * part.weight))) for name, count in counts]
    for name in watched if height else ():
        column = _column(frame, name)
        rows.append(("missing_rate", name, part.name, column.to_frame().select(_missing(name, column.dtype)).item()))
        if reference is not None and height >= settings.min_rows:
            drifted = drift.compare(_column(reference, name), column, settings.psi_bins)
            rows += [(metric, name, part.name, value) for metric, value in drifted.items()]
    return rows_of(window, rows, part.version, window.end)


def performance(
    window: Span,
    frame: pl.DataFrame,
    baseline: NDArray[Any],
    settings: MonitoringSettings,
    project: Project,
    part: Part = ALL,
) -> pl.DataFrame:
    """Return label coverage and performance, overall and per slice, and the share of predictions that were late, as
    known `label_delay` after the end.

    `frame` is one row per prediction; its label is null where it was still unknown then. The metrics of `baseline`,
    a heuristic's scores of the same rows, are named `baseline_<metric>`. Metrics of the project's own are measured
    on all rows together, and so is, for classes, `confusion`: how many rows of each class were predicted to be of
    which, in the column `cell(label, prediction)`. What a metric cannot say is left out. Slices and `confusion`
    are those of all rows.
    """
    rows: list[tuple[str, str, str, float]] = []
    if "late" in frame.columns and (said := frame["late"].count()):  # earlier releases did not say
        rows.append(("late_share", "", part.name, float(frame["late"].sum() / said)))
    frame = frame.with_row_index("_row")
    slices = project.slices if part.name == "all" else ()
    for name, sliced in _slices(frame, slices, ("_row", "label", *project.labels.score_columns), part.name):
        known = sliced.drop_nulls(["label", *project.labels.score_columns])
        if sliced.height:
            rows.append(("label_coverage", "", name, 1 - sliced["label"].null_count() / sliced.height))
        if not known.height or known.height < settings.min_rows:
            continue
        scores = known.select(project.labels.score_columns).to_numpy()
        scores = scores if project.labels.classes else scores[:, 0]
        for prefix, given in (("", scores), ("baseline_", baseline[known["_row"].to_numpy()])):
            values = project.model.metrics(known["label"].to_numpy(), given)
            rows += [(prefix + metric, "", name, float(value)) for metric, value in values.items()]
    own = frame.drop("_row").drop_nulls("label")
    if project.metrics and own.height >= settings.min_rows:
        predicted = own.to_pandas()
        rows += [(name, "", part.name, float(measure(predicted))) for name, measure in project.metrics.items()]
    if part.name == "all" and project.labels.classes and own.height >= settings.min_rows:
        counts = own.group_by("label", "prediction").len().sort("label", "prediction").rows()
        rows += [("confusion", cell(label, guess), "all", float(round(n * part.weight))) for label, guess, n in counts]
    return rows_of(window, rows, part.version, window.end + settings.label_delay)


def cell(label: str, prediction: str) -> str:
    """The name of a cell of the confusion matrix."""
    return f"{label} predicted as {prediction}"


def pipelines(window: Span, runs: pl.DataFrame) -> pl.DataFrame:
    """Return runs, failed runs, mean seconds, throughput and longest lag of each pipeline, for the as_of of one window.

    `runs` holds rows of `ops.runs`. Seconds and throughput count finished runs only. A run as of the window's end
    belongs to the next window: the one that measures this window is among them, and has not ended yet.
    """
    inside = runs.filter(pl.col("as_of") >= window.start, pl.col("as_of") < window.end)
    finished = pl.col("status") == "finished"
    table = inside.group_by("pipeline").agg(
        runs=pl.len(),
        failed_runs=(~finished).sum(),
        run_seconds=pl.col("seconds").filter(finished).mean(),
        rows_per_second=pl.col("rows").filter(finished).sum() / pl.col("seconds").filter(finished).sum(),
        lag_seconds=pl.col("lag_seconds").max(),
    )
    long = table.unpivot(index="pipeline").drop_nulls().sort("pipeline", "variable")
    rows = [(metric, name, "all", float(value)) for name, metric, value in long.iter_rows()]
    return rows_of(window, rows, None, window.end)


def _slices(
    frame: pl.DataFrame, slices: Sequence[str], columns: Sequence[str], whole: str
) -> Iterator[tuple[str, pl.DataFrame]]:
    yield whole, frame.select(columns)
    for column in slices:
        narrow = frame.select(list(dict.fromkeys((column, *columns))))
        for (value,), part in sorted(narrow.partition_by(column, as_dict=True).items(), key=str):
            yield _slice(column, value), part


def _slice(column: str, value: object) -> str:
    return f"{column}={'missing' if value is None else value}"


def _column(frame: pl.DataFrame | pl.LazyFrame, name: str) -> pl.Series:
    """One column; of a file no other is read."""
    return frame.lazy().select(name).collect()[name]


def _missing(name: str, dtype: pl.DataType) -> pl.Expr:
    """Give the share of missing values, by the same definition as drift: null, NaN or infinite."""
    column = pl.col(name)
    present = column.is_finite().fill_null(False) if dtype.is_float() else column.is_not_null()
    return (1 - present.mean()).alias(name)


def rows_of(
    window: Span, rows: Iterable[tuple[str, str, str, float]], version: int | None, available_at: datetime
) -> pl.DataFrame:
    """Rows of `SCHEMA`, from metric, column, slice and value."""
    records = [(*window, *row, version, available_at) for row in rows if isfinite(row[-1]) or row[-1] == inf]
    return pl.DataFrame(records, SCHEMA, orient="row")
