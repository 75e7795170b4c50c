"""Batch inference: score every entity whose prediction time has come, with the champion of that time."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from mlplatform.environment import Environment, Run
from mlplatform.features.frames import entities
from mlplatform.registry.scoring import score_columns, scorer
from mlplatform.registry.store import Registry
from mlplatform.storage import ops
from mlplatform.storage.catalog import Relation, Window


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
            run.wrote(table, env.catalog.replace(table, scored, Window("prediction_time", begin, end)))
        return run


def score(env: Environment, registry: Registry, version: int, start: datetime, end: datetime) -> Relation:
    """The predictions of one version for the prediction times in (`start`, `end`]."""
    rows, project = entities(env, end, start, end), env.project
    kept = [*project.entity.keys, "prediction_time", *project.slices, *project.baseline.groups, "feature_time"]
    scores, run_id = scorer(registry, version), registry.version(version).run_id
    threshold = registry.tags(version).threshold

    def predict(batch: pa.RecordBatch) -> pa.RecordBatch:
        given = batch.select(list(dict.fromkeys(kept)))
        scored = score_columns(project.labels, scores(batch.to_pandas()), threshold)
        written = {
            **{name: pa.array(v, pa.string() if v.dtype == object else None) for name, v in scored.items()},
            "model": pa.repeat(registry.model, batch.num_rows),
            "model_version": pa.repeat(version, batch.num_rows),
            "run_id": pa.repeat(run_id, batch.num_rows),
            "scored_at": pa.repeat(pa.scalar(datetime.now(UTC).replace(tzinfo=None), ops.TIME), batch.num_rows),
        }
        return pa.record_batch([*given.columns, *written.values()], names=[*given.schema.names, *written])

    nothing = pa.RecordBatch.from_pylist([], rows.schema)
    return rows.map(predict, predict(nothing).schema)


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
