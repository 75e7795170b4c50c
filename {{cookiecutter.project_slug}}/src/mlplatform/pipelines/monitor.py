"""Monitor: measure the windows that have passed, judge them by the rules, raise alerts and tell people."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

import pandas as pd
import polars as pl

from mlplatform.environment import Environment, Run
from mlplatform.features.frames import entities, sample, with_labels
from mlplatform.monitoring import alerts, metrics
from mlplatform.monitoring.metrics import Volume
from mlplatform.monitoring.notify import notify
from mlplatform.registry.baseline import baseline_scores
from mlplatform.registry.scoring import as_trained, whole_columns
from mlplatform.registry.store import Registry
from mlplatform.storage import ops
from mlplatform.storage.catalog import Relation, Span, Window, option

_JOINED = 5  # windows whose features are held in memory at once, if they have no more rows than one may have


class Predictions(NamedTuple):
    """Predictions of a share of the entities, each of which stands for `weight` ones."""

    rows: pl.DataFrame
    share: float = 1.0
    weight: float = 1.0


def monitor(env: Environment, as_of: datetime) -> Run:
    """Bring `monitoring.metrics` and `ops.alerts` up to `as_of`; alerts that are new are sent.

    Drift and counts are known at a window's end, performance when its labels are in, `label_delay` later.
    """
    settings, registry = env.config.monitoring, Registry(env)
    with env.run("monitor", as_of) as run:
        since = env.last_finished("monitor", before=as_of) or _first_prediction(env, registry, as_of)
        measured = [pl.DataFrame(schema=metrics.SCHEMA)]
        ended = list(metrics.windows(settings.window, since, as_of))
        for first in range(0, len(ended), _JOINED):
            for some in _together(env, registry, ended[first : first + _JOINED]):
                measured += measure(env, registry, some, run)
        delay = settings.label_delay
        for window in metrics.windows(settings.window, since - delay, as_of - delay):
            measured += judge(env, registry, window, run)
        rows = pl.concat(measured)
        run.wrote(ops.METRICS, env.catalog.replace(ops.METRICS, rows.to_arrow(), Window("available_at", since, as_of)))
        raise_alerts(env, run, since)
        return run


def measure(env: Environment, registry: Registry, windows: list[Span], run: Run) -> Iterator[pl.DataFrame]:
    """What is known of consecutive windows at their ends: volumes, inputs and drift, pipeline runs."""
    # One join for all: what was known at a prediction time stays the same, whenever it is looked up.
    span = Span(windows[0].start, windows[-1].end)
    known = env.catalog.read(ops.RUNS, where=Window("as_of", span.start - timedelta.resolution, span.end))
    runs = pl.DataFrame(known)
    predicted = _predictions(env, registry, span, run)
    serving = option("mlplatform.serving.monitored:measured")
    scored = predicted._replace(rows=_joined(env, predicted, span)) if predicted.rows.height else predicted
    for window in windows:
        volumes = {t.table: _volume(env, t.table, window) for t in env.project.tables}
        yield metrics.volumes(window, volumes)
        yield metrics.pipelines(window, runs)
        if serving:
            yield from serving(env, window, predicted.rows)
        if not scored.rows.is_empty():
            yield from _inputs(env, registry, window, scored)


def _joined(env: Environment, predicted: Predictions, span: Span) -> pl.DataFrame:
    """Predictions with what they were made from: joined again, and for requests as the log has kept it."""
    rows, keys = predicted.rows, list(env.project.entity.keys)
    told = [*keys, *env.project.labels.score_columns, "model_version", "inference", "variant"]
    seen = pl.DataFrame(entities(env, span.end, span.start, span.end, fraction=predicted.share))
    joined = rows.filter(pl.col("inference") != "online").select(told).join(seen, on=keys)
    asked = option("mlplatform.serving.monitored:asked")
    requests = asked(env, rows, span.end) if asked else pl.DataFrame()
    return pl.concat([joined, requests.select(joined.columns)], how="vertical_relaxed") if requests.height else joined


def _inputs(env: Environment, registry: Registry, window: Span, predicted: Predictions) -> Iterator[pl.DataFrame]:
    """The inputs and their drift, for each version that scored in the window."""
    settings, project, scores = env.config.monitoring, env.project, env.project.labels.score_columns
    scored = predicted.rows.filter(pl.col("prediction_time") > window.start, pl.col("prediction_time") <= window.end)
    # Part of a week is no week: in a window in which the champion changed, no version's inputs are compared.
    steady = len(list(registry.ledger.champions(window.start, window.end))) == 1
    for place, version, part in _parts(env, scored):
        reference = pl.scan_parquet(registry.files(version, "reference.parquet")) if steady else None
        whole = whole_columns(registry.files(version, "model"))
        given = pl.DataFrame(pl.from_pandas(as_trained(project.model.inputs, part.to_pandas(), whole)))
        added = [name for name in (*scores, *project.slices) if name not in given.columns]
        # A column that is newer than the version has nothing to be compared with.
        known = [name for name in (*given.columns, *scores) if reference is None or name in reference.collect_schema()]
        frame = given.with_columns(part[name] for name in added)
        measured = metrics.Part(place, version, predicted.weight)
        yield metrics.inputs(window, frame, reference, settings, project.slices, known, measured)


def judge(env: Environment, registry: Registry, window: Span, run: Run) -> Iterator[pl.DataFrame]:
    """The performance in a window, by the labels that were known `label_delay` after its end."""
    settings = env.config.monitoring
    predicted = _predictions(env, registry, window, run)
    if predicted.rows.is_empty():
        return
    known = with_labels(env, predicted.rows.to_arrow(), window.end + settings.label_delay)
    frame = pl.DataFrame(known)
    for place, version, part in _parts(env, frame):
        heuristic = pd.read_parquet(registry.files(version, "baseline.parquet"))
        guessed = baseline_scores(heuristic, part.to_pandas(), env.project.labels)
        measured = metrics.Part(place, version, predicted.weight)
        yield metrics.performance(window, part, guessed, settings, env.project, measured)


def raise_alerts(env: Environment, run: Run, since: datetime) -> None:
    """Write the alerts that the rules find in what became known after `since`, and send those nobody was told of."""
    settings = env.config.monitoring
    if env.last_finished("monitor", before=run.as_of):  # a first run has not seen every metric yet
        seen = pl.DataFrame(env.catalog.read(ops.METRICS, ["metric", "column", "slice"])).unique()
        run.notes.extend(alerts.silent(seen, settings.rules))
    # A rule looks at so many windows together, and the last of them may have waited for its labels.
    reach = settings.label_delay + settings.window * max((rule.windows.of for rule in settings.rules), default=0)
    history = pl.DataFrame(env.catalog.read(ops.METRICS, where=Window("available_at", since - reach, run.as_of)))
    found = alerts.evaluate(history, settings.rules, run.as_of).filter(pl.col("raised_at") > since)
    known_alerts = pl.DataFrame(env.catalog.read(ops.ALERTS, alerts.KEYS))
    new = found.join(known_alerts, on=list(alerts.KEYS), how="anti")
    if not new.is_empty():
        run.wrote(ops.ALERTS, env.catalog.upsert(ops.ALERTS, new.to_arrow(), alerts.KEYS))
    if not env.has_finished("monitor", run.as_of):  # a run that was killed has written alerts, and told nobody
        new = found
    lines = [f"{row['rule']}: {row['message']}" for row in new.iter_rows(named=True)]
    title = f"{env.name}: {len(lines)} new alert{'s' * (len(lines) > 1)}"
    failures = notify(title, lines, settings.notify)
    run.notes.extend(f"not delivered: {failure}" for failure in failures)


def _together(env: Environment, registry: Registry, windows: list[Span]) -> list[list[Span]]:
    """Consecutive windows in groups, each with few enough predictions for memory or a group of its own."""
    rows = _made(env, registry, Span(windows[0].start, windows[-1].end))
    many = rows is not None and rows.count() > env.config.monitoring.max_rows
    return [[window] for window in windows] if many else [windows]


def _made(env: Environment, registry: Registry, window: Span) -> Relation | None:
    table = f"predictions.{registry.settings.model}"
    if not env.catalog.exists(table):
        return None
    within, keys = Window("prediction_time", *window).predicate("TIMESTAMP "), ", ".join(env.project.entity.keys)
    return env.engine.query(f"SELECT * FROM {table} WHERE {within} ORDER BY prediction_time, {keys}")


def _predictions(env: Environment, registry: Registry, window: Span, run: Run) -> Predictions:
    """What was predicted in a window; of very many predictions a sample, which the run notes."""
    made, most = _made(env, registry, window), env.config.monitoring.max_rows
    if made is None:
        return Predictions(pl.DataFrame())
    rows, share, taken, total = sample(env, made, most)
    found = pl.DataFrame(rows)
    # Batch alone was there before these columns.
    for name, usual in (("inference", "batch"), ("variant", "champion")):
        known = pl.col(name).fill_null(usual) if name in found.columns else pl.lit(usual).alias(name)
        found = found.with_columns(known)
    if taken < total:
        note = f"{taken:,} of {total:,} predictions stand for the window to {window.end} (monitoring.max_rows)"
        run.notes.extend([note] if note not in run.notes else [])
    return Predictions(found, share, total / max(taken, 1))


def _parts(env: Environment, frame: pl.DataFrame) -> Iterator[tuple[str, int, pl.DataFrame]]:
    """The parts of predictions (see `metrics.parts`), by version."""
    for place, part in metrics.parts(frame, env.project.entity.keys):
        for (version,), rows in sorted(part.partition_by("model_version", as_dict=True).items()):
            yield place, version, rows


def _volume(env: Environment, table: str, window: Span) -> Volume:
    sql = (
        f"SELECT count(*) FILTER (WHERE available_at > TIMESTAMP '{window.start}') AS rows, "
        f"max(event_timestamp) AS newest FROM {table}"
    )
    (row,) = env.engine.query(sql, as_of=window.end).arrow().to_pylist()
    return Volume(**row)


def _first_prediction(env: Environment, registry: Registry, as_of: datetime) -> datetime:
    table = f"predictions.{registry.settings.model}"
    if not env.catalog.exists(table):
        return as_of - env.config.monitoring.window
    times = env.engine.query(f"SELECT min(prediction_time) AS first FROM {table}").arrow()
    first: datetime | None = times["first"][0].as_py()
    # Just before it, since a window that ends at that very moment holds it.
    return first - timedelta.resolution if first else as_of - env.config.monitoring.window
