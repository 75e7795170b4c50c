"""A stream that keeps the online store: whatever comes late or dies, it holds what a batch would publish."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from mlplatform.environment import Environment
from mlplatform.errors import UserError
from mlplatform.features.online import OnlineFeatures, OnlineStoreError, publish
from mlplatform.pipelines.featurize import featurize
from mlplatform.pipelines.monitor import monitor
from mlplatform.streaming import online
from mlplatform.streaming.online import OnlineSink
from mlplatform.streaming.stream import Stream, run
from steps import overlay, read
from streams import HOUR, interleaved, stream

LoadEnv = Callable[..., Environment]
pytestmark = pytest.mark.stream


class Killed(BaseException):
    """The process is dead."""


def streaming(project: Path, load_env: LoadEnv) -> Environment:
    overlay(project, "stream", {"streaming": {"max_events": 4, "sinks": ["online"]}})
    return load_env("prod", project, "stream")


def entries(env: Environment) -> list[tuple[str, str, str]]:
    """All that the store holds of features."""
    with closing(sqlite3.connect(env.folder / "data" / "online" / "prod.db")) as store:
        return store.execute("SELECT * FROM entries WHERE view <> '' ORDER BY view, key").fetchall()


@pytest.mark.parametrize("seed", range(3))
def test_the_online_store_equals_a_batch_rebuild_after_any_interleaving(
    seed: int, project: Path, load_env: LoadEnv, now: datetime
) -> None:
    env = streaming(project, load_env)
    interleaved(env, now, now + 40 * HOUR, seed)
    for hours in (10, 15, 20, 30, 40):
        stream(env, now, now + hours * HOUR, 5 * HOUR)
        streamed = entries(env)
        publish(env, now + hours * HOUR, whole=True)
        assert streamed == entries(env)
    until = now + 40 * HOUR
    found = [OnlineFeatures(env).at({"kind": kind}, until) for kind in "abc"]
    featurize(env, until, backfill=True)
    publish(env, until, whole=True)
    for one, kind in zip(found, "abc", strict=True):
        rebuilt = OnlineFeatures(env).at({"kind": kind}, until)
        assert one.values == pytest.approx(rebuilt.values, rel=1e-12)
        assert one[1:] == rebuilt[1:]


def test_what_a_stream_died_before_publishing_is_published_by_the_next(
    project: Path, load_env: LoadEnv, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = streaming(project, load_env)
    publish(env, now)
    interleaved(env, now, now + 30 * HOUR, 0)

    def dies(self: OnlineSink, as_of: datetime) -> int:
        raise Killed

    before = entries(env)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(OnlineSink, "publish", dies)
        stream(env, now, now + 20 * HOUR, 20 * HOUR)
    assert entries(env) == before
    stream(env, now, now + 21 * HOUR)
    streamed = entries(env)
    assert streamed != before
    publish(env, now + 21 * HOUR, whole=True)
    assert streamed == entries(env)


def test_a_store_is_waited_for_that_goes_away_and_not_one_that_was_never_there(
    project: Path, load_env: LoadEnv, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, said, asked = streaming(project, load_env), list[str](), count()
    going = Stream(env, now)

    def away(*_: Any) -> dict[str, int]:
        if next(asked) == 0:
            raise OnlineStoreError("it does not answer")
        return publish(env, now + HOUR)

    monkeypatch.setattr(online, "publish", away)
    assert run(going, iter([now + HOUR]), Event(), said.append, live=False) == 1
    assert said[0] == "it does not answer; the stream tries again in 1 s"

    monkeypatch.setenv("ONLINE_STORE_URL", "redis://127.0.0.1:1")
    overlay(project, "store", {"serving": {"online": {"store": "redis"}}})
    with pytest.raises(UserError, match="ONLINE_STORE_URL"):
        Stream(load_env("prod", project, "stream", "store"), now)


def test_the_age_of_what_a_stream_publishes_is_measured(project: Path, load_env: LoadEnv, now: datetime) -> None:
    env = streaming(project, load_env)
    interleaved(env, now, now + 30 * HOUR, 0)
    stream(env, now, now + 20 * HOUR)
    monitor(env, now + timedelta(days=14))
    rows = read(env, "monitoring.metrics").filter(column="online", metric="freshness_seconds")
    assert rows.height
