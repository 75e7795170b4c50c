"""What tests of streams share: events of the tiny project, and a stream that is replayed."""

import sys
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import polars as pl
import pyarrow as pa
from polars.testing import assert_frame_equal

from mlplatform.environment import Environment
from mlplatform.storage.catalog import open_catalog
from mlplatform.streaming.stream import Stream, replayed, run
from steps import read
from tiny.deliveries import EVERY, HEADERS, ISO, KINDS, START

HOUR = timedelta(hours=1)
TABLES = ("silver.items", "silver.outcomes", "features.kind_history", "features.kind_arrivals")
# What tells a stream from a batch, or one attempt from another.
_OTHER = ("source_file", "source_row", "scored_at", "ingested_at", "inference", "run_id")

# A process of its own that replays events: python -c RUN <project> <since> <until> <step in minutes>
RUN = """
import sys
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event
from mlplatform.environment import Environment
from mlplatform.streaming.stream import Stream, replayed, run
from tiny.project import PROJECT

folder, since, until, step = sys.argv[1:]
env = Environment.load("prod", PROJECT, Path(folder), ("test", "stream"))
stream = Stream(env, datetime.fromisoformat(since))
times = replayed(stream.last, datetime.fromisoformat(until), timedelta(minutes=int(step)), None, Event())
print("ready", flush=True)
run(stream, times, Event(), lambda text: print(text, flush=True), live=False)
stream.close()
"""


def facts(since: datetime, until: datetime) -> list[tuple[str, datetime, dict[str, str]]]:
    """Items and outcomes that become known in (`since`, `until`]: source, time, values."""
    found = []
    for number in range(int((until - START) / EVERY) + 1):
        chance, known, name = Random(number), START + number * EVERY, f"item-{number:06d}"
        kind, amount = chance.choice(list(KINDS)), f"{chance.uniform(0, 100):.1f}"
        outcome = f"{chance.gauss(0, 15):.2f}"  # in the order in which tiny.deliveries draws: the same times come of it
        later = (known + timedelta(hours=24 + chance.randrange(24))).replace(microsecond=0)
        for source, time, value in (("items", known, amount), ("outcomes", later, outcome)):
            if since < time <= until:
                values = (name, kind, value, time.strftime(ISO))
                found.append((source, time, dict(zip(HEADERS[source], values, strict=True))))
    return sorted(found, key=lambda fact: fact[1])


def send(env: Environment, source: str, events: Iterable[dict[str, Any]], arrived: datetime | None = None) -> None:
    """One commit of events into the table that the stream of `env` reads."""
    rows = pa.Table.from_pylist([{**event, "landed_at": arrived} if arrived else dict(event) for event in events])
    if arrived:
        rows = rows.set_column(rows.num_columns - 1, "landed_at", rows["landed_at"].cast(pa.timestamp("us")))
    open_catalog(env.folder, "data", owner="events", reader="events").append(f"events.{source}", rows)


def interleaved(env: Environment, since: datetime, until: datetime, seed: int) -> set[str]:
    """Send what happens in (`since`, `until`], much of it late and out of order; returns the items that were sent."""
    chance = Random(seed)
    delayed = [
        (time + chance.choice((0, 1, 30)) * chance.random() * HOUR, source, values)
        for source, time, values in facts(since, until - 10 * HOUR)
    ]
    arrivals = sorted((event for event in delayed if event[0] <= until), key=lambda event: event[0])
    for arrived, source, values in arrivals:
        send(env, source, [values], arrived)
    return {values["item_id"] for _, source, values in arrivals if source == "items"}


def stream(env: Environment, since: datetime, until: datetime, step: timedelta = HOUR) -> None:
    """Replay what has been sent."""
    going = Stream(env, since)
    run(going, replayed(going.last, until, step, None, Event()), Event(), print, live=False)
    going.close()


def tidy(rows: pl.DataFrame, *without: str) -> pl.DataFrame:
    """Rows in an order of their own, without what tells one way of making them from another."""
    frame = rows.drop(*_OTHER, *without, strict=False)
    return frame.sort([name for name, kind in frame.schema.items() if not kind.is_float()])


def assert_equal(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    """Equal, but for the order in which a sum has added its numbers."""
    assert_frame_equal(found, expected, check_exact=False, rel_tol=1e-12, abs_tol=1e-12)


def state(env: Environment) -> dict[str, pl.DataFrame]:
    """The tables that a stream writes."""
    names = [*TABLES, "bronze.items", "bronze.outcomes", "quarantine.items", "predictions.tiny"]
    return {name: tidy(read(env, name)) for name in names}


def command(folder: Path, since: datetime, until: datetime, step: int) -> list[str]:
    return [sys.executable, "-c", RUN, str(folder), since.isoformat(), until.isoformat(), str(step)]
