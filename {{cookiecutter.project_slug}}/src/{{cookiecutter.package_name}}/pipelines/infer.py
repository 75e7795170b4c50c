"""Batch inference: score every entity whose prediction time has come, with the champion of that time."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from ..environment import Environment, Run
from ..lakehouse.frames import entities
from ..registry.scoring import scores
from ..registry.store import Registry
from ..usecase import model
from ..usecase.columns import SLICES
from ..usecase.features import ENTITY_KEY
from .settings import Settings


def infer(env: Environment, as_of: datetime, *, again: bool = False) -> Run:
    """Score the prediction times in (last run, `as_of`].

    A window that is scored stays as it is; with `again` it is scored once more, by the champion of its time.
    """
    if env.has_finished("infer", as_of) and not again:
        return Run("infer", as_of, notes=[f"prediction times up to {as_of} are scored; nothing to do"])
    registry = Registry(env)
    with env.run("infer", as_of) as run:
        start = env.last_finished("infer", before=as_of) or as_of - env.settings(Settings).inference.first_window
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
    columns = list(dict.fromkeys([ENTITY_KEY, "prediction_time", *SLICES, *model.BASELINE, "feature_time"]))
    written: dict[str, Any] = {
        "score": pa.array(scored, pa.float64()),
        "model": pa.array([registry.model] * rows.num_rows, pa.string()),
        "model_version": pa.array([version] * rows.num_rows, pa.int64()),
        "run_id": pa.array([registry.version(version).run_id] * rows.num_rows, pa.string()),
        "scored_at": pa.array([datetime.now(UTC).replace(tzinfo=None)] * rows.num_rows, pa.timestamp("us")),
    }
    result = rows.select(columns)
    for name, values in written.items():
        result = result.append_column(name, values)
    return result


def _batches(
    env: Environment, registry: Registry, start: datetime, end: datetime
) -> Iterator[tuple[datetime, datetime, int | None]]:
    """Spans with one champion each, none longer than the configured batch."""
    longest: timedelta = env.settings(Settings).inference.batch_window
    for begin, finish, champion in registry.ledger.champions(start, end):
        while begin < finish:
            stop = min(begin + longest, finish)
            yield begin, stop, champion
            begin = stop
