"""Predictions of batch beside their table: in files and databases, by `pipelines.inference.sinks`."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from mlplatform.environment import Environment, Run
from mlplatform.errors import GoneError
from mlplatform.inference import in_batch, kept
from mlplatform.storage.catalog import Window
from mlplatform.storage.sinks import DAY, Sink, open_sink

_WRITTEN = ("threshold", "prediction", "model", "model_version", "run_id", "late", "scored_at")


def sinks(env: Environment) -> list[Sink]:
    """The sinks of the environment. Raises UserError where one cannot be opened."""
    configured, keys = env.config.pipelines.inference.sinks, env.project.entity.keys
    return [open_sink(env.folder, sink, env.name, keys, "prediction_time") for sink in configured]


def publish(env: Environment, run: Run, table: str, to: Iterable[Sink]) -> None:
    """Bring sinks to what batch has predicted: each day in which the table changed, whole, then the version.

    So whoever is killed in between puts some days there again. One day is held in memory.
    """
    if not env.catalog.exists(table):
        return
    project, found = env.project, env.catalog.snapshot(table)
    wanted = [*kept(project), *project.labels.score_columns, *_WRITTEN]
    columns = [name for name in wanted if name in found.schema.names and name not in project.entity.sensitive]
    for sink in to:
        reached = sink.reached()
        if reached == found.version:
            continue
        for day in _days(env, table, reached if reached is not None and reached < found.version else None):
            window = Window("prediction_time", day - timedelta.resolution, day + DAY - timedelta.resolution)
            rows = env.catalog.read(table, columns, in_batch(env, table, window))
            sink.put(day, rows.sort_by([(key, "ascending") for key in project.entity.keys]))
            run.wrote(f"{table} in sinks", rows.num_rows)
        sink.reach(found.version)


def _days(env: Environment, table: str, after: int | None) -> list[datetime]:
    """The days of predictions that commits after a version have added, or of all where that is not known."""
    if after is not None:
        try:
            changes = env.catalog.changes(table, after, ["prediction_time"])
            return sorted(
                {day for change in changes for batch in change.batches for day in _of(batch["prediction_time"])}
            )
        except GoneError:
            pass
    return sorted(_of(env.catalog.read(table, ["prediction_time"])["prediction_time"]))


def _of(times: pa.Array | pa.ChunkedArray) -> set[datetime]:
    return set(pc.unique(pc.floor_temporal(times, unit="day")).to_pylist())
