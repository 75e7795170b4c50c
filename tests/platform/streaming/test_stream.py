"""A stream ends in the tables that batch makes of the same deliveries, whatever comes late, twice or broken."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event

import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from mlplatform.environment import Environment
from mlplatform.pipelines.featurize import featurize
from mlplatform.pipelines.infer import infer
from mlplatform.pipelines.ingest import ingest
from mlplatform.streaming.delta import feed
from mlplatform.streaming.stream import Stream, replayed, run
from steps import read
from tiny.deliveries import land

LoadEnv = Callable[..., Environment]
Duplicate = Callable[[Path, Path], Path]
HOUR = timedelta(hours=1)
PROVENANCE = ("source_file", "source_row", "scored_at", "inference")


def tidy(rows: pl.DataFrame, *without: str) -> pl.DataFrame:
    frame = rows.drop(*PROVENANCE, *without, strict=False)
    return frame.sort([name for name, kind in frame.schema.items() if not kind.is_float()])


def stream(env: Environment, since: datetime, until: datetime, step: timedelta = HOUR) -> None:
    going = Stream(env, since)
    run(going, replayed(going.last, until, step, None, Event()), Event(), print, live=False)
    going.close()


def deliver(env: Environment, since: datetime, until: datetime, step: timedelta = HOUR) -> None:
    """Files that land as things become known."""
    for number in range(1, int((until - since) / step) + 1):
        land(env.landing, since + number * step)


def test_a_stream_ends_in_the_tables_that_batch_makes_of_the_same_deliveries(
    project: Path, tmp_path: Path, duplicate: Duplicate, load_env: LoadEnv, now: datetime
) -> None:
    until = now + 3 * 24 * HOUR
    batch = load_env("prod", duplicate(project, tmp_path / "batch"))
    streamed = load_env("prod", project)
    infer(batch, now)
    land(batch.landing, until)
    for pipeline in (ingest, featurize, infer):
        pipeline(batch, until)
    deliver(streamed, now, until, 2 * HOUR)
    feed(streamed, now, until)
    stream(streamed, now, until)
    for name in ("silver.items", "silver.outcomes", "features.kind_history", "features.kind_arrivals"):
        assert_frame_equal(tidy(read(streamed, name)), tidy(read(batch, name)))
    scored = read(batch, "predictions.tiny").filter(pl.col("prediction_time") > now)
    assert scored.height == 30
    assert_frame_equal(tidy(read(streamed, "predictions.tiny"), "late"), tidy(scored, "late"))
