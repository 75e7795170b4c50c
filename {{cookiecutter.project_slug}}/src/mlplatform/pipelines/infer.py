"""Batch inference: score every entity whose prediction time has come, with the champion of that time."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from mlplatform.environment import Environment, Run
from mlplatform.features.frames import entities
from mlplatform.inference import in_batch, predictions
from mlplatform.inference.sinks import publish, sinks
from mlplatform.registry.store import Registry
from mlplatform.storage.catalog import Relation, Window


def infer(env: Environment, as_of: datetime, *, again: bool = False) -> Run:
    """Score what is due at `as_of` and has no score yet.

    What landed after the run of its prediction time is scored as it would have been then, and marked late; one
    `first_window` before the last run it is given up. What is scored stays as it is; with `again` the prediction times
    since the last run are scored once more, by the champion of their time. Then everything goes to the sinks.
    """
    registry, places = Registry(env), sinks(env)
    with env.run("infer", as_of) as run:
        table, reach = f"predictions.{registry.settings.model}", env.config.pipelines.inference.first_window
        last = env.last_finished("infer", before=as_of)
        start = last or as_of - reach
        for begin, end, champion in _batches(registry, start - reach, start) if last else ():
            if champion is not None:
                run.wrote(table, _score_what_is_due(registry, champion, begin, end, table, late=True))
        late = env.has_finished("infer", as_of)
        for begin, end, champion in _batches(registry, start, as_of):
            if champion is None:
                then = registry.ledger.champion(end)
                more = f" (version {then} scores what becomes due after that)" if then is not None else ""
                run.note(f"no champion from {begin} to {end}: nothing scored{more}")
            elif again:
                scored = score(registry, champion, begin, end)
                where = in_batch(env, table, Window("prediction_time", begin, end))
                run.wrote(table, env.catalog.replace(table, scored, where))
            else:
                run.wrote(table, _score_what_is_due(registry, champion, begin, end, table, late=late))
        publish(env, run, table, places)
        if not run.notes and not any(run.written.values()):
            run.note(f"nothing to score from {start} to {as_of}")
        return run


def _score_what_is_due(
    registry: Registry, version: int, start: datetime, end: datetime, table: str, *, late: bool
) -> int:
    scored = score(registry, version, start, end, without=table, late=late)
    return registry.env.catalog.append(table, scored) if scored.count() else 0


def score(
    registry: Registry, version: int, start: datetime, end: datetime, *, without: str = "", late: bool = False
) -> Relation:
    """The predictions of one version for the prediction times in (`start`, `end`], those in a table left out."""
    return predictions(registry, version, entities(registry.env, end, start, end, without), "batch", late=late)


def _batches(registry: Registry, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime, int | None]]:
    """Spans with one champion each, none longer than the configured batch."""
    longest: timedelta = registry.env.config.pipelines.inference.batch_window
    for begin, finish, champion in registry.ledger.champions(start, end):
        while begin < finish:
            stop = min(begin + longest, finish)
            yield begin, stop, champion
            begin = stop
