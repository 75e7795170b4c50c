"""The online feature store: what is published, when it is seen, and that it equals the join offline."""

import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar

import polars as pl
import pytest

from mlplatform.environment import Environment
from mlplatform.errors import ForbiddenError
from mlplatform.features.online import (
    STATE,
    STORES,
    Entry,
    OnlineFeatures,
    OnlineStoreError,
    Store,
    open_store,
    publish,
)
from mlplatform.pipelines.materialize import materialize
from mlplatform.storage.catalog import Window
from mlplatform.testing.conformance import World
from mlplatform.testing.online import online_values_equal_offline_ones
from steps import advance, overlay, read
from tiny.deliveries import DELIVERIES
from tiny.project import PROJECT

LoadEnv = Callable[..., Environment]
DAY = timedelta(days=1)
pytestmark = pytest.mark.serving


@pytest.fixture
def redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Redis server of the test's own, on a free port."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed: `make test-serving` installs it")
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            for _ in range(100):
                with closing(socket.socket()) as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            monkeypatch.setenv("ONLINE_STORE_URL", f"redis://127.0.0.1:{port}")
            yield
        finally:
            server.terminate()


class Memory:
    """Another store: one entry in the dictionary is all that it takes."""

    kept: ClassVar[dict[str, dict[Entry, str]]] = {}

    def __init__(self, file: Path, address: str, name: str, variable: str, write: bool) -> None:
        self._texts = self.kept.setdefault(str(file), {})

    def read(self, entries: Sequence[Entry]) -> list[str | None]:
        return [self._texts.get(entry) for entry in entries]

    def publish(self, texts: Iterable[tuple[Entry, str]], whole: Sequence[str]) -> None:
        fresh = dict(texts)
        for entry in [entry for entry in self._texts if entry[0] in whole]:
            del self._texts[entry]
        self._texts.update(fresh)


@pytest.fixture(params=["sqlite", "redis", "memory"])
def env(
    request: pytest.FixtureRequest, project: Path, load_env: LoadEnv, monkeypatch: pytest.MonkeyPatch
) -> Environment:
    """prod with a store of each kind."""
    if request.param == "redis":
        request.getfixturevalue("redis")
    monkeypatch.setitem(STORES, "memory", f"{__name__}:Memory")
    return load_env("prod", project, overlay(project, "store", {"serving": {"online": {"store": request.param}}}))


@pytest.mark.parametrize("address", ["", "user:secret@127.0.0.1:6379", "redis://:secret@127.0.0.1:1"])
def test_a_wrong_address_is_told_with_the_variable_that_holds_it(
    address: str, project: Path, load_env: LoadEnv, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONLINE_STORE_URL", address)
    env = load_env("prod", project, overlay(project, "store", {"serving": {"online": {"store": "redis"}}}))
    for ask in (lambda: publish(env, now), lambda: OnlineFeatures(env)):
        with pytest.raises(OnlineStoreError, match="ONLINE_STORE_URL") as told:
            ask()
        assert "secret" not in str(told.value)


def test_online_values_equal_offline_ones() -> None:
    online_values_equal_offline_ones(World(PROJECT, DELIVERIES))


def test_increments_publish_what_a_whole_publication_does(env: Environment, now: datetime) -> None:
    publish(env, now - 3 * DAY)
    for day in (2, 1, 0):
        written = publish(env, now - day * DAY)
        assert 0 < written["kind_history"] <= 3, "only what became available since"
    rows = [{"kind": kind} for kind in ("a", "b", "c", "unheard of")]
    steps = [OnlineFeatures(env).at(row, now) for row in rows]
    publish(env, now, whole=True)
    assert [OnlineFeatures(env).at(row, now) for row in rows] == steps
    assert steps[0].feature_time is not None
    assert steps[3].missing == list(steps[3].values)


def test_an_earlier_time_publishes_nothing_from_after_it(env: Environment, now: datetime, load_env: LoadEnv) -> None:
    publish(env, now - 2 * DAY)
    first = OnlineFeatures(env).at({"kind": "a"}, now - 2 * DAY)
    publish(env, now)
    publish(env, now - 2 * DAY)
    assert OnlineFeatures(env).at({"kind": "a"}, now - 2 * DAY) == first
    with pytest.raises(OnlineStoreError, match=r"(published online for staging|no online store there)"):
        OnlineFeatures(load_env("staging", env.folder, "store"))


def test_values_grow_stale_by_the_time_of_the_request(env: Environment, now: datetime) -> None:
    """kind_arrivals counts for a day, kind_history for seven."""
    publish(env, now)
    features = OnlineFeatures(env)
    assert not features.at({"kind": "a"}, now).stale
    later = features.at({"kind": "a"}, now + 2 * DAY)
    assert later.stale == ["kind_arrivals__items_1d"]
    assert later.values["kind_arrivals__items_1d"] is None
    assert later.values["kind_history__outcomes_7d"] is not None
    assert features.at({"kind": "a"}, now + 8 * DAY).feature_time is None
    arrivals = read(env, "features.kind_arrivals").filter(pl.col("kind") == "a", pl.col("available_at") <= now)
    end = max(arrivals["event_timestamp"]) + DAY
    assert not features.at({"kind": "a"}, end).stale
    assert features.at({"kind": "a"}, end + timedelta.resolution).stale


def test_of_what_is_known_of_one_moment_the_last_is_published(prod: Environment, now: datetime) -> None:
    publish(prod, now)
    arrivals, hour = read(prod, "features.kind_arrivals").sort("available_at"), timedelta(hours=1)
    last = arrivals.filter(pl.col("kind") == "a", pl.col("available_at") <= now).tail(1)
    newer = last.with_columns(pl.lit(now + hour, pl.Datetime("us")).alias("available_at"), pl.col("items_1d") + 1000)
    prod.catalog.append("features.kind_arrivals", newer.select(arrivals.columns).to_arrow())
    for whole in (False, True):
        publish(prod, now + hour, whole=whole)
        found = OnlineFeatures(prod).at({"kind": "a"}, now + hour).values["kind_arrivals__items_1d"]
        assert found == last["items_1d"][0] + 1000
    others = arrivals.filter(pl.col("kind") != "a").to_arrow()
    prod.catalog.replace("features.kind_arrivals", others, Window("available_at"))
    publish(prod, now + hour)
    assert OnlineFeatures(prod).at({"kind": "a"}, now).missing == ["kind_arrivals__items_1d"], "it was taken away"


def test_a_publication_that_dies_is_never_seen(env: Environment, now: datetime) -> None:
    publish(env, now - DAY)
    before = OnlineFeatures(env).at({"kind": "a"}, now)

    def dies() -> Iterator[tuple[tuple[str, str], str]]:
        yield ("kind_history", '["a"]'), "[0, 0, 0, 0]"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_store(env, write=True).publish(dies(), ["kind_arrivals"])
    assert OnlineFeatures(env).at({"kind": "a"}, now) == before


def test_what_lands_between_two_publications_is_not_passed_over(prod: Environment, now: datetime) -> None:
    """Published for a time up to which the features had not come yet, and once more when they had."""
    publish(prod, now + DAY)
    advance(prod, now + 2 * DAY)
    publish(prod, now + 2 * DAY)
    step = OnlineFeatures(prod).at({"kind": "a"}, now + 2 * DAY)
    publish(prod, now + 2 * DAY, whole=True)
    assert OnlineFeatures(prod).at({"kind": "a"}, now + 2 * DAY) == step


def test_a_store_that_is_gone_or_broken_is_said_to_be_and_a_new_one_is_read(prod: Environment, now: datetime) -> None:
    file = prod.folder / "data" / "online" / "prod.db"
    publish(prod, now - 3 * DAY)
    features = OnlineFeatures(prod)
    for path in file.parent.iterdir():
        path.unlink()
    for broken in (b"", b"no database" * 1_000):
        with pytest.raises(OnlineStoreError, match=r"prod\.db"):
            features.at({"kind": "a"}, now)
        file.write_bytes(broken)
    with pytest.raises(OnlineStoreError, match=r"prod\.db: file is not a database"):
        publish(prod, now)
    file.unlink()
    publish(prod, now)
    assert features.at({"kind": "a"}, now) == OnlineFeatures(prod).at({"kind": "a"}, now)
    assert features.as_of == now
    with closing(sqlite3.connect(file)) as writer:
        writer.execute("UPDATE entries SET text = '[0' WHERE view = 'kind_history'")
        writer.commit()
    with pytest.raises(OnlineStoreError, match="run `materialize --backfill`"):
        features.at({"kind": "a"}, now)


def test_rows_that_are_asked_for_together_are_of_one_moment(
    env: Environment, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when something is published between two readings of the store."""
    publish(env, now - 3 * DAY)
    features = OnlineFeatures(env)
    read = type(vars(features)["_store"]).read

    def then_publish(store: Store, entries: Sequence[Entry]) -> list[str | None]:
        found: list[str | None] = read(store, entries)
        if store is vars(features)["_store"]:
            publish(env, now)
        return found

    monkeypatch.setattr(type(vars(features)["_store"]), "read", then_publish)
    first, second = features.of([{"kind": "a"}, {"kind": "a"}], now)
    assert first == second
    assert features.at({"kind": "a"}, now) != first


def test_a_redis_server_that_does_not_answer_is_not_waited_for_by_everybody(
    project: Path, load_env: LoadEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = load_env("prod", project, overlay(project, "store", {"serving": {"online": {"store": "redis"}}}))
    monkeypatch.setattr("mlplatform.features.stores._WAIT", 0.5)
    with closing(socket.create_server(("127.0.0.1", 0), backlog=100)) as silent:
        monkeypatch.setenv("ONLINE_STORE_URL", f"redis://127.0.0.1:{silent.getsockname()[1]}")
        store = open_store(env)
        for _ in range(5):
            with pytest.raises(OnlineStoreError, match="does not answer"):
                store.read([STATE])
        silent.settimeout(0)
        asked = 0
        with suppress(BlockingIOError):
            while silent.accept():
                asked += 1
        assert asked == 1


def test_readers_see_no_half_of_an_open_publication(prod: Environment, now: datetime) -> None:
    publish(prod, now)
    features = OnlineFeatures(prod)
    before = features.at({"kind": "a"}, now)
    with closing(sqlite3.connect(prod.folder / "data" / "online" / "prod.db")) as writer:
        writer.execute("DELETE FROM entries")
        assert features.at({"kind": "a"}, now) == before
        writer.rollback()


def test_another_environment_reads_and_never_publishes(prod: Environment, now: datetime, load_env: LoadEnv) -> None:
    borrows = overlay(prod.folder, "borrows", {"lakehouse": {"features_from": "prod"}})
    dev = load_env("dev", prod.folder, borrows)
    with pytest.raises(OnlineStoreError, match="run `materialize` first"):
        OnlineFeatures(dev)
    materialize(prod, now)
    assert OnlineFeatures(dev).at({"kind": "a"}, now).feature_time is not None
    with pytest.raises(ForbiddenError):
        materialize(dev, now)
    with pytest.raises(OnlineStoreError, match="readonly"):
        open_store(dev).publish([(STATE, "{}")], [])
