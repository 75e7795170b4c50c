"""Tables that are written every hour stay as quick to open, and hold as few files, as tables that were written once."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from mlplatform.environment import Environment
from mlplatform.pipelines.infer import infer
from mlplatform.pipelines.maintain import maintain
from mlplatform.pipelines.monitor import monitor
from mlplatform.storage.ops import RUNS
from steps import advance, overlay, read

LoadEnv = Callable[..., Environment]

HOUR = timedelta(hours=1)


def files(env: Environment) -> dict[str, int]:
    """How many files lie below the folder of each table."""
    folders = {name: env.reports.joinpath(*name.split(".")) for name in env.catalog.names()}
    return {name: sum(path.is_file() for path in folder.rglob("*")) for name, folder in folders.items()}


def refresh(env: Environment, start: datetime, hours: int) -> datetime:
    for hour in range(1, hours + 1):
        advance(env, start + hour * HOUR)
        infer(env, start + hour * HOUR)
    return start + hours * HOUR


@pytest.fixture
def hourly(project: Path, load_env: LoadEnv) -> Environment:
    """prod, which keeps no earlier versions of tables."""
    overlay(project, "hourly", {"lakehouse": {"keep_versions": "0s"}})
    return load_env("prod", project, "hourly")


def test_however_many_hours_pass_the_files_of_a_table_are_few(hourly: Environment, now: datetime) -> None:
    counts = []
    for day in range(3):
        end = refresh(hourly, now + day * 12 * HOUR, 12)
        before = {name: read(hourly, name) for name in hourly.catalog.names() if name != RUNS}
        maintain(hourly, end)
        for name, rows in before.items():
            assert_frame_equal(read(hourly, name), rows, check_row_order=False)
        counts.append(files(hourly))
    assert max(counts[-1].values()) <= 12, counts[-1]
    assert sum(counts[-1].values()) <= 1.2 * sum(counts[0].values()), counts
    assert max(Counter(read(hourly, RUNS)["pipeline"]).values()) >= 36


def test_who_reads_while_tables_are_maintained_keeps_its_files(prod: Environment, now: datetime) -> None:
    end = refresh(prod, now, 3)
    reading = prod.engine.query("SELECT * FROM silver.items")
    version = prod.catalog.snapshot("silver.items").version
    maintain(prod, end)
    assert prod.catalog.snapshot("silver.items").version > version
    assert reading.count() == reading.arrow().num_rows == prod.catalog.count("silver.items")


def test_what_is_known_of_the_past_survives(hourly: Environment, load_env: LoadEnv, now: datetime) -> None:
    end = refresh(hourly, now, 3)
    monitor(hourly, end)
    then = hourly.engine.query("SELECT * FROM silver.items", as_of=now).count()
    maintain(hourly, end)
    maintain(hourly, end)
    assert hourly.engine.query("SELECT * FROM silver.items", as_of=now).count() == then
    assert hourly.last_finished("infer", before=end) == end - HOUR
    assert refresh(hourly, end, 2) == end + 2 * HOUR
