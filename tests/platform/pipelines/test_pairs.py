"""Every pair of pipelines at once, in two processes, one of them killed at some time: the tables are those of a serial
order."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from importlib import import_module
from itertools import combinations_with_replacement
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mlplatform.environment import Environment
from mlplatform.registry.store import Registry
from mlplatform.storage.ops import RUNS
from steps import advance, overlay, read
from tiny.deliveries import land

LoadEnv = Callable[..., Environment]
Duplicate = Callable[[Path, Path], Path]
State = dict[str, pl.DataFrame]

PIPELINES = ("ingest", "featurize", "infer", "monitor", "train", "deploy", "maintain")
PAIRS = list(combinations_with_replacement(PIPELINES, 2))
SAMPLE = [("ingest", "featurize"), ("train", "train")]
# What the wall clock, or the number of runs, decides.
BY_THE_WAY = ("ingested_at", "scored_at", "recorded_at", "run_id")
RUNS_METRICS = ("run_seconds", "rows_per_second", "runs", "failed_runs")
RUN = """
import sys
from datetime import datetime
from importlib import import_module
from pathlib import Path
from mlplatform.environment import Environment
from tiny.project import PROJECT

env = Environment.load("prod", PROJECT, Path(sys.argv[1]), ("test", "pairs"))
pipeline = getattr(import_module(f"mlplatform.pipelines.{sys.argv[2]}"), sys.argv[2])
env.code, open(f"{sys.argv[1]}/{sys.argv[4]}.ready", "w").close()
while not Path(sys.argv[1], "go").exists():
    pass
pipeline(env, datetime.fromisoformat(sys.argv[3]))
"""


def state(env: Environment) -> State:
    """Every table in an order of its own, and the stage and identity of each version."""
    found = {}
    for name in [name for name in env.catalog.names() if name != RUNS]:
        rows = read(env, name).drop(*BY_THE_WAY, strict=False)
        if "metric" in rows.columns:
            rows = rows.filter(~pl.col("metric").is_in(RUNS_METRICS))
        found[name] = rows.sort([column for column, kind in rows.schema.items() if not kind.is_float()])
    tags = [(int(v.version), v.tags["identity"], v.tags["stage"]) for v in Registry(env).versions()]
    found["versions"] = pl.DataFrame(tags, ["version", "identity", "stage"], orient="row")
    return found


def differences(found: State, expected: State) -> str:
    """Which tables differ; nothing where none does."""
    for name in sorted(found.keys() | expected.keys()):
        try:
            assert_frame_equal(found[name], expected[name], rel_tol=1e-9, abs_tol=1e-9)
        except (AssertionError, KeyError) as error:
            return f"{name}: {str(error)[:600]}"
    return ""


def run(env: Environment, pipelines: Sequence[str], as_of: datetime) -> None:
    for name in pipelines:
        getattr(import_module(f"mlplatform.pipelines.{name}"), name)(env, as_of)


def at_once(folder: Path, pair: Sequence[str], as_of: datetime, kill: float | None) -> list[int]:
    """Run two pipelines at once, and kill the first of them after so many seconds; returns how each has ended."""
    both = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, str(folder), name, as_of.isoformat(), str(number)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.DEVNULL,
        )
        for number, name in enumerate(pair)
    ]
    while not all((folder / f"{number}.ready").exists() for number in range(2)):
        assert not any(process.poll() for process in both)
        time.sleep(0.01)
    (folder / "go").touch()
    if kill is not None:
        time.sleep(kill)
        both[0].kill()
    return [process.wait() for process in both]


@pytest.fixture(scope="module")
def start(
    world: Path, tmp_path_factory: pytest.TempPathFactory, duplicate: Duplicate, load_env: LoadEnv, now: datetime
) -> Path:
    """Ten days after `world`, of which the last day's files have only landed: every pipeline has something to do."""
    project = duplicate(world, tmp_path_factory.mktemp("pairs") / "start")
    overlay(project, "pairs", {"lakehouse": {"keep_versions": "1h"}})
    env = load_env("prod", project)
    advance(env, now + timedelta(days=9))
    land(env.landing, now + timedelta(days=10))
    return project


@pytest.fixture
def rounds(start: Path, tmp_path: Path, duplicate: Duplicate, load_env: LoadEnv, now: datetime) -> Callable[..., None]:
    """rounds(pair, seeds): for each seed run the pair at once; every second time the one of them is killed, and then
    both run again."""
    later = now + timedelta(days=10)
    serial: dict[tuple[str, ...], State] = {}

    def after(*pipelines: str) -> State:
        if pipelines not in serial:
            env = load_env("prod", duplicate(start, tmp_path / "-".join(("serial", *pipelines))), "pairs")
            run(env, pipelines, later)
            serial[pipelines] = state(env)
        return serial[pipelines]

    def orders(first: str, second: str, killed: bool) -> Iterator[State]:
        yield after(first, second)
        yield after(second, first)
        if killed:
            yield after(second, first, second)
            yield after(first, second, first, second)

    def rounds(pair: tuple[str, str], seeds: Sequence[int]) -> None:
        for seed in seeds:
            chance = random.Random(f"{pair} {seed}")
            first, second = chance.sample(pair, 2)
            kill = chance.uniform(0, 1.5) if seed % 2 else None
            folder = duplicate(start, tmp_path / f"round-{seed}")
            ended = at_once(folder, (first, second), later, kill)
            assert ended[1] == 0 and (kill is not None or ended[0] == 0), (first, second, seed, ended)
            env = load_env("prod", folder, "pairs")
            if kill is not None:
                run(env, (first, second), later)
            found = state(env)
            told = [differences(found, expected) for expected in orders(first, second, kill is not None)]
            assert "" in told, f"{first} and {second}, round {seed}, killed after {kill}: {told}"

    return rounds


@pytest.mark.parametrize("pair", SAMPLE, ids="-".join)
def test_a_pair_at_once_ends_as_one_after_the_other(pair: tuple[str, str], rounds: Callable[..., None]) -> None:
    rounds(pair, range(2))


@pytest.mark.nightly
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_every_pair_at_once_ends_as_one_after_the_other(pair: tuple[str, str], rounds: Callable[..., None]) -> None:
    rounds(pair, range(20))
