"""Batch inference: score every entity whose prediction time has come, with the champion of that time."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from mlplatform.environment import Environment, Run
from mlplatform.features.frames import entities
from mlplatform.registry.scoring import score_columns, scores
from mlplatform.registry.store import Registry


def infer(env: Environment, as_of: datetime, *, again: bool = False) -> Run:
    """Score the prediction times in (last run, `as_of`].

    A window that is scored stays as it is; with `again` it is scored once more, by the champion of its time.
    """
    if env.has_finished("infer", as_of) and not again:
        return Run("infer", as_of, notes=[f"prediction times up to {as_of} are scored; nothing to do"])
    registry = Registry(env)
    with env.run("infer", as_of) as run:
        start = env.last_finished("infer", before=as_of) or as_of - env.config.pipelines.inference.first_window
        table = f"predictions.{registry.settings.model}"
        for begin, end, champion in _batches(env, registry, start, as_of):
            if champion is None:
                run.note(f"no champion from {begin} to {end}: nothing scored")
                continue
            scored = score(env, registry, champion, begin, end)
            env.tables.replace(table, scored, where=f"prediction_time > '{begin}' AND prediction_time <= '{end}'")
            run.wrote(table, scored.num_rows)
        return run


def score(env: Environment, registry: Registry, version: int, start: datetime, end: datetime) -> pa.Table:
    """The predictions of one version for the prediction times in (`start`, `end`]."""
    rows = entities(env, end, start, end)
    scored = scores(registry, version, rows.to_pandas())
    project = env.project
    kept = [*project.entity.keys, "prediction_time", *project.slices, *project.baseline.groups, "feature_time"]
    count = rows.num_rows
    written = {
        **{name: pa.array(values) for name, values in score_columns(project.labels, scored).items()},
        "model": pa.array([registry.model] * count, pa.string()),
        "model_version": pa.array([version] * count, pa.int64()),
        "run_id": pa.array([registry.version(version).run_id] * count, pa.string()),
        "scored_at": pa.array([datetime.now(UTC).replace(tzinfo=None)] * count, pa.timestamp("us")),
    }
    result = rows.select(list(dict.fromkeys(kept)))
    for name, column in written.items():
        result = result.append_column(name, column)
    return result


def _batches(
    env: Environment, registry: Registry, start: datetime, end: datetime
) -> Iterator[tuple[datetime, datetime, int | None]]:
    """Spans with one champion each, none longer than the configured batch."""
    longest: timedelta = env.config.pipelines.inference.batch_window
    for begin, finish, champion in registry.ledger.champions(start, end):
        while begin < finish:
            stop = min(begin + longest, finish)
            yield begin, stop, champion
            begin = stop
