"""The stream of an environment on Spark writes what one on DuckDB does, and ends as one does."""

import signal
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mlplatform.environment import Environment
from mlplatform.storage.delta import DeltaCatalog
from mlplatform.streaming.stream import Stream, told_to_stop
from sparks import HERE
from steps import Killed, overlay
from streams import HOUR, assert_equal, facts, send, state

pytestmark = pytest.mark.spark
pytest.importorskip("pyspark")


def test_a_stream_on_spark_that_died_after_a_write_ends_as_one_on_duckdb_to_which_nothing_happened(
    project: Path,
    tmp_path: Path,
    duplicate: Callable[[Path, Path], Path],
    load_env: Callable[..., Environment],
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overlay(project, "spark", {"lakehouse": {"engine": "spark", "spark": HERE}})
    whole, env = load_env("prod", duplicate(project, tmp_path / "whole")), load_env("prod", project, "spark")
    until = now + 12 * HOUR
    for number, (source, time, values) in enumerate(facts(now, until)):
        for to in (whole, env):
            send(to, source, [values, *([dict.fromkeys(values, "poison")] if number % 5 == 4 else [])], time)
    append = DeltaCatalog.append

    def mortal(catalog: DeltaCatalog, name: str, *arguments: Any) -> int:
        written = append(catalog, name, *arguments)
        if name == "bronze.items":
            raise Killed
        return written

    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        told_to_stop()
        listens = signal.getsignal(signal.SIGINT)
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(DeltaCatalog, "append", mortal)
            Stream(env, now).advance(until, lambda arrived: arrived > until)
        for going in (env, whole):
            Stream(going, now).advance(until, lambda arrived: arrived > until)
        assert signal.getsignal(signal.SIGINT) is listens, "Ctrl-C would not let the micro-batch end"
    finally:
        for heard, handler in before.items():
            signal.signal(heard, handler)
    expected = state(whole)
    assert expected["predictions.tiny"].height > 3
    assert expected["quarantine.items"].height
    for name, rows in state(env).items():
        assert_equal(rows, expected[name])
