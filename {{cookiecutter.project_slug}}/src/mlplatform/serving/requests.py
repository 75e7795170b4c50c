"""What was asked and answered: lines of the request log, and the predictions that `ingest` makes of them."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from mlplatform.config.serving import ServingSettings
from mlplatform.environment import Environment, Run
from mlplatform.features.frames import entities
from mlplatform.features.online import EPOCH, micros
from mlplatform.inference import kept
from mlplatform.registry.store import Registry
from mlplatform.serving.log import SUFFIX
from mlplatform.storage import ops
from mlplatform.storage.catalog import Among, Window

# Columns of predictions that only requests have, besides those that batches have as well.
REQUEST = {
    "request_id": ops.TEXT,
    "request_row": ops.WHOLE,
    "request": ops.TEXT,
    "features": ops.TEXT,
    "variant": ops.TEXT,
    "features_missing": ops.WHOLE,
    "features_stale": ops.WHOLE,
    "seconds": ops.NUMBER,
}
WRITTEN = {
    "model": ops.TEXT,
    "model_version": ops.WHOLE,
    "run_id": ops.TEXT,
    "inference": ops.TEXT,
    "late": ops.FLAG,
    "scored_at": ops.TIME,
}


def folder(env: Environment) -> Path:
    """Where the environment's request log is."""
    return env.folder / env.config.of(ServingSettings).log.folder / env.name


def take_in(env: Environment, run: Run) -> None:
    """Append to `predictions.*` what was answered up to the run's time and is not there yet; files that are done go.

    A row is known by its request's id and its place in it. Whoever dies in between appends nothing twice: the table is
    asked first. A file that a server still writes is left to the next run, and one with a damaged line is set aside.
    """
    for path in sorted(folder(env).glob(f"*{SUFFIX}")):
        with _taken(path) as lines:
            rows = list(_parsed(lines))
            due = [row for row in rows if row["prediction_time"] <= micros(run.as_of)]
            _append(env, run, due)
            if lines is _BUSY or len(due) < len(rows):
                continue
            if damaged := len(lines) - len(rows):
                aside = path.rename(path.with_suffix(".damaged"))
                run.note(f"request log: {damaged} of {len(lines)} lines are damaged, the others are taken: {aside}")
            else:
                path.unlink()


def unsearched(env: Environment) -> Iterator[str]:
    """What of the log is not among the predictions, and what to do about it."""
    segment = env.config.of(ServingSettings).log.segment
    if waiting := sum(1 for _ in folder(env).glob(f"*{SUFFIX}")):
        yield (
            f"{folder(env)}: {waiting} files of the request log are not searched: run `ingest` (or `collect`), and "
            f"this again; the file that a server writes is taken in once it is closed, {segment} after it was begun"
        )
    for path in folder(env).glob("*.damaged"):
        yield f"{path}: damaged lines of the request log, not searched: delete it where it holds the value"


def _parsed(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        with suppress(ValueError):  # the power went, or a disk is broken
            yield json.loads(line)


_BUSY: list[bytes] = []


@contextmanager
def _taken(path: Path) -> Iterator[list[bytes]]:
    """The whole lines of a file that nobody writes any more; `_BUSY` where somebody does."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield _BUSY
            return
        # What a crash left of a last line was not on disk when its request would have been answered.
        yield [line for line in file.read().splitlines(keepends=True) if line.endswith(b"\n")]


def _append(env: Environment, run: Run, rows: list[dict[str, Any]]) -> None:
    """What was returned into the predictions, what was scored in the shadow into a table beside them, and tallies."""
    table = f"predictions.{Registry(env).settings.model}"
    tallies = ops.rows(ops.REQUESTS, [{**row, "until": _time(row)} for row in rows if "tally" in row])
    if tallies.num_rows:
        run.wrote(ops.REQUESTS, env.catalog.upsert(ops.REQUESTS, tallies, ops.KEYS[ops.REQUESTS]))
    rows = [row for row in rows if "tally" not in row]
    for name, of_shadow in ((table, False), (f"{table}_shadow", True)):
        mine = _news(env, name, [row for row in rows if (row["variant"] == "shadow") == of_shadow])
        if mine:
            run.wrote(name, env.catalog.append(name, _rows(env, mine, run.as_of)))


def _news(env: Environment, table: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that the table does not have."""
    if not (rows and env.catalog.exists(table) and "request_id" in env.catalog.snapshot(table).schema.names):
        return rows
    times = [_time(row) for row in rows]
    ids = sorted({row["request_id"] for row in rows})
    reach = Window("prediction_time", min(times) - timedelta.resolution, max(times), Among("request_id", ids))
    known = env.catalog.read(table, ["request_id", "request_row"], reach).to_pylist()
    there = {(row["request_id"], row["request_row"]) for row in known}
    return [row for row in rows if (row["request_id"], row["request_row"]) not in there]


def _time(row: dict[str, Any]) -> datetime:
    return EPOCH + timedelta(microseconds=row["prediction_time"])


def _rows(env: Environment, rows: list[dict[str, Any]], as_of: datetime) -> pa.Table:
    project = env.project
    joined = entities(env, as_of, as_of, as_of).schema
    types = {name: joined.field(name).type for name in kept(project)}
    types |= dict.fromkeys(project.labels.score_columns, pa.float64())
    chosen = {"threshold": ops.NUMBER, "prediction": ops.TEXT if project.labels.classes else ops.WHOLE}
    types |= {name: kind for name, kind in chosen.items() if any(name in row["scored"] for row in rows)}
    schema = pa.schema({**types, **WRITTEN, **REQUEST})
    flat = [{**row, **row["kept"], **row["scored"], "inference": "online", "late": False} for row in rows]
    columns = [[row.get(name) for row in flat] for name in schema.names]
    return pa.table([_array(values, kind) for values, kind in zip(columns, schema.types, strict=True)], schema=schema)


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    """What `features.online.plain` has made of values of a type, as that type."""
    if pa.types.is_date(kind) or pa.types.is_decimal(kind):
        return pa.array(values, pa.string()).cast(kind)
    return pa.array(values, kind)
