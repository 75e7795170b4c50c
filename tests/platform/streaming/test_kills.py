"""Streams that are killed, doubled or told to stop: predictions are those of a stream that nothing has happened to."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from random import Random
from threading import Timer
from time import sleep

import pytest
import yaml

from mlplatform.contract import SilverTable
from mlplatform.environment import Environment, Run
from mlplatform.preparation.silver import refresh_silver
from mlplatform.storage.delta import DeltaCatalog
from mlplatform.streaming.stream import told_to_stop
from steps import overlay, read
from streams import HOUR, assert_equal, command, facts, send, state, stream

LoadEnv = Callable[..., Environment]
Duplicate = Callable[[Path, Path], Path]
pytestmark = pytest.mark.stream
PATH = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
WRITERS = ("append", "replace", "upsert")


@contextmanager
def ended(process: "subprocess.Popen[str]", seconds: int) -> Iterator[None]:
    """Kill the process if it has not ended in so many seconds: what waits for its words goes on."""
    timer = Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Killed(BaseException):
    """The process is dead: whatever it still tries to write fails."""


def prepared(project: Path, load_env: LoadEnv, now: datetime, hours: int) -> Environment:
    """A project to whose stream has been sent what happens in so many hours, poison among it, some of it late."""
    overlay(project, "stream", {"streaming": {"max_events": 5}})
    env = load_env("prod", project, "stream")
    for number, (source, time, values) in enumerate(facts(now, now + hours * HOUR)):
        send(env, source, [values], time + (number % 4 == 3) * HOUR)
        if number % 5 == 4:
            send(env, source, [dict.fromkeys(values, "poison")], time)
    return env


def test_a_stream_killed_after_any_of_its_writes_ends_the_same(
    project: Path, tmp_path: Path, duplicate: Duplicate, load_env: LoadEnv, now: datetime
) -> None:
    prepared(project, load_env, now, 12)
    until, whole = now + 12 * HOUR, load_env("prod", duplicate(project, tmp_path / "whole"), "stream")
    stream(whole, now, until, 6 * HOUR)
    expected = state(whole)
    assert expected["quarantine.items"].height
    for survives in count(1, 3):
        env, left = load_env("prod", duplicate(project, tmp_path / f"killed-{survives}"), "stream"), [survives]

        def mortal(write: Callable[..., int], left: list[int] = left) -> Callable[..., int]:
            def attempt(*arguments: object, **named: object) -> int:
                if not left[0]:
                    raise Killed
                left[0] -= 1
                return write(*arguments, **named)

            return attempt

        with pytest.MonkeyPatch.context() as patch:
            for name in WRITERS:
                patch.setattr(DeltaCatalog, name, mortal(getattr(DeltaCatalog, name)))
            try:
                stream(env, now, until, 6 * HOUR)
            except Killed:
                pass
            else:
                assert survives > 10, "the test kills nothing"
                return
        stream(env, now, until, 6 * HOUR)
        for name, rows in state(env).items():
            assert_equal(rows, expected[name])


def test_what_a_killed_stream_has_landed_is_prepared_when_a_replay_comes_to_its_time(
    project: Path, load_env: LoadEnv, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Micro-batches in which nothing happens come before it: they are recorded nowhere, and so are run again."""
    overlay(project, "stream", {"streaming": {}})
    env = load_env("prod", project, "stream")
    ((_, time, values), *_) = (fact for fact in facts(now, now + 12 * HOUR) if fact[0] == "items")
    send(env, "items", [values], time)
    refresh = refresh_silver

    def dead(env: Environment, run: Run, table: SilverTable) -> None:
        if run.as_of >= time:
            raise Killed
        refresh(env, run, table)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("mlplatform.streaming.stream.refresh_silver", dead)
        stream(env, now, now + 12 * HOUR)
    assert values["item_id"] in read(env, "bronze.items")["item_id"].to_list()
    stream(env, now, now + 12 * HOUR)
    (row,) = read(env, "predictions.tiny").filter(inference="streaming").to_dicts()
    assert (row["item_id"], row["late"]) == (values["item_id"], False)


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.nightly)])
def test_a_stream_killed_at_random_moments_predicts_what_an_uninterrupted_one_does(
    kills: int, project: Path, tmp_path: Path, duplicate: Duplicate, load_env: LoadEnv, now: datetime
) -> None:
    env = prepared(project, load_env, now, 8 * max(3, kills))
    until, chance, died = now + 8 * max(3, kills) * HOUR, Random(kills), 0
    whole = load_env("prod", duplicate(project, tmp_path / "whole"), "stream")
    stream(whole, now, until, 2 * HOUR)
    while True:
        with subprocess.Popen(command(project, now, until, 120), env=PATH, stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            assert run.stdout.readline() == "ready\n"
            if died < kills:
                sleep(chance.random() * 1.5)
                died += run.poll() is None
                run.kill()
            run.communicate()
        if run.returncode == 0:
            break
        assert run.returncode == -signal.SIGKILL
    assert died == kills
    expected = state(whole)
    for name, rows in state(env).items():
        assert_equal(rows, expected[name])


def test_two_streams_started_by_mistake_end_as_one(
    project: Path, tmp_path: Path, duplicate: Duplicate, load_env: LoadEnv, now: datetime
) -> None:
    env, until = prepared(project, load_env, now, 24), now + 24 * HOUR
    whole = load_env("prod", duplicate(project, tmp_path / "whole"), "stream")
    stream(whole, now, until, 4 * HOUR)
    both = [subprocess.Popen(command(project, now, until, 240), env=PATH, stderr=subprocess.PIPE) for _ in range(2)]
    said = [run.communicate()[1] for run in both]
    assert [run.returncode for run in both] == [0, 0], said
    expected = state(whole)
    for name in ("silver.items", "silver.outcomes", "features.kind_history", "predictions.tiny", "bronze.items"):
        assert_equal(state(env)[name].drop("late", strict=False), expected[name].drop("late", strict=False))


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_stream_also_in_the_moment_in_which_it_begins_to_wait(name: signal.Signals) -> None:
    def give_up(*_: object) -> None:
        raise TimeoutError

    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    alarm = signal.signal(signal.SIGALRM, give_up)
    try:
        stop = told_to_stop()
        signal.alarm(10)
        with vars(stop)["_cond"]:  # what a wait does first
            signal.raise_signal(name)
        assert stop.wait(10)
    finally:
        signal.alarm(0)
        for each, handler in {**before, signal.SIGALRM: alarm}.items():
            signal.signal(each, handler)


def test_a_stream_runs_by_the_clock_on_the_wall_until_it_is_told_to_stop(project: Path, load_env: LoadEnv) -> None:
    settings = yaml.safe_load((project / "conf" / "test.yml").read_text())
    settings["pipelines"]["refused"] = []
    prod = yaml.safe_load((project / "conf" / "prod.yml").read_text()) or {}
    overlay(project, "prod", prod | settings | {"streaming": {"every": "1s"}})
    env, now = load_env("prod", project), datetime.now(UTC).replace(tzinfo=None)
    arguments = [sys.executable, "-m", "tiny", "stream", "--env", "prod", "--since", f"{now - HOUR:%Y-%m-%dT%H:%M:%SZ}"]
    path = {**PATH, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(arguments, cwd=project, env=path, stdout=subprocess.PIPE, text=True) as run, ended(run, 120):
        assert run.stdout is not None
        values = {"item_id": "item-800000", "kind": "a", "amount": "50.0", "published_at": f"{now:%Y-%m-%dT%H:%M:%SZ}"}
        send(env, "items", [values])
        line = run.stdout.readline()
        assert "predictions.tiny 1 (" in line, line
        run.send_signal(signal.SIGTERM)
        rest = run.communicate()[0]
    assert run.returncode == 0, rest
    assert "stream: ended after" in rest
    assert read(env, "predictions.tiny")["item_id"].to_list() == ["item-800000"]
