"""Every pair of pipelines at once, in two processes, one or both of them killed at some time: the tables are those of a
serial order. What chance decides follows from the pair and the number of the round, which a failure names."""

import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from importlib import import_module
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hands import EXPIRES, PIPELINES, at_once
from mlplatform.environment import Environment
from mlplatform.registry.store import Registry
from mlplatform.storage.address import Remote
from mlplatform.storage.ops import RUNS
from steps import advance, overlay, read
from stores import Store
from tiny.deliveries import land

LoadEnv = Callable[..., Environment]
Duplicate = Callable[[Path, Path], Path]
State = dict[str, pl.DataFrame]

PAIRS = list(combinations_with_replacement(PIPELINES, 2))
SAMPLE = [("ingest", "featurize"), ("train", "train")]
# What the wall clock, or the number of runs, decides.
BY_THE_WAY = ("ingested_at", "modified", "scored_at", "recorded_at", "run_id")
RUNS_METRICS = ("run_seconds", "rows_per_second", "runs", "failed_runs")
SETTINGS: dict[str, Any] = {"lakehouse": {"keep_versions": "1h"}}


def state(env: Environment) -> State:
    """Every table in an order of its own, and the stage of each version with what it was trained on."""
    found = {}
    for name in [name for name in env.catalog.names() if name != RUNS]:
        rows = read(env, name).drop(*BY_THE_WAY, strict=False)
        if "metric" in rows.columns:
            rows = rows.filter(~pl.col("metric").is_in(RUNS_METRICS))
        found[name] = rows.sort([column for column, kind in rows.schema.items() if not kind.is_float()])
    # Not its identity: the settings are part of that, and hold where the tables are.
    tags = [(int(v.version), v.tags["data_digest"], v.tags["stage"]) for v in Registry(env).versions()]
    found["versions"] = pl.DataFrame(tags, ["version", "data_digest", "stage"], orient="row")
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


@pytest.fixture(scope="module")
def start(
    world: Path, tmp_path_factory: pytest.TempPathFactory, duplicate: Duplicate, load_env: LoadEnv, now: datetime
) -> Path:
    """Ten days after `world`, of which the last day's files have only landed: every pipeline has something to do."""
    project = duplicate(world, tmp_path_factory.mktemp("pairs") / "start")
    overlay(project, "pairs", SETTINGS)
    env = load_env("prod", project)
    advance(env, now + timedelta(days=9))
    land(env.landing, now + timedelta(days=10))
    return project


@pytest.fixture
def rounds(
    start: Path,
    tmp_path: Path,
    duplicate: Duplicate,
    load_env: LoadEnv,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> Callable[..., None]:
    """rounds(pair, seeds): for each seed run the pair at once; of four times one of them is killed in two, both in
    one, and then both run again. With `store`, tables and deliveries lie there."""
    later = now + timedelta(days=10)
    serial: dict[tuple[str, ...], State] = {}
    took: dict[str, float] = {}
    monkeypatch.setattr("mlplatform.storage.lease.EXPIRES", EXPIRES)

    def after(*pipelines: str) -> State:
        if pipelines not in serial:
            env = load_env("prod", duplicate(start, tmp_path / "-".join(("serial", *pipelines))), "pairs")
            for name in pipelines:
                begun = time.monotonic()
                run(env, [name], later)
                took.setdefault(name, time.monotonic() - begun)
            serial[pipelines] = state(env)
        return serial[pipelines]

    def orders(first: str, second: str, killed: bool) -> Iterator[State]:
        yield after(first, second)
        yield after(second, first)
        if killed:
            yield after(second, first, second)
            yield after(first, second, first, second)

    def rounds(pair: tuple[str, str], seeds: Sequence[int], store: Store | None = None) -> None:
        died = 0
        for seed in seeds:
            chance = random.Random(f"{pair} {seed}")
            first, second = chance.sample(pair, 2)
            after(first, second)
            kills = [
                chance.uniform(0, 1.5 * took[name]) if dies else None
                for name, dies in ((first, seed % 4), (second, seed % 4 == 2))
            ]
            folder = duplicate(start, tmp_path / f"round-{seed}")
            if store is not None:
                move(folder, store)
            ended = at_once(folder, (first, second), later, ["pairs"], kills)
            for number, (code, kill) in enumerate(zip(ended, kills, strict=True)):
                said = (folder / f"{number}.said").read_text(encoding="utf-8")
                assert code == 0 or (code == -signal.SIGKILL and kill is not None), (pair, seed, kills, ended, said)
                died += code != 0
            env = load_env("prod", folder, "pairs")
            if seed % 4:
                run(env, (first, second), later)
            found = state(env)
            told = [differences(found, expected) for expected in orders(first, second, bool(seed % 4))]
            assert "" in told, f"{first} and {second}, round {seed}, killed after {kills}: {told}"
        record_property("rounds", len(seeds))
        record_property("killed", died)

    return rounds


def move(folder: Path, store: Store) -> None:
    """Put a project's tables and deliveries into an object store."""
    root, parts = store.fresh(), {"root": "data/prod", "landing": "data/landing"}
    for name, part in parts.items():
        Remote(f"{root}/{name}").copy_from(folder / part)
        shutil.rmtree(folder / part)
    at = {name: f"{root}/{name}" for name in parts}
    overlay(folder, "pairs", {"lakehouse": {**SETTINGS["lakehouse"], **at}})


@pytest.mark.parametrize("pair", SAMPLE, ids="-".join)
def test_a_pair_at_once_ends_as_one_after_the_other(pair: tuple[str, str], rounds: Callable[..., None]) -> None:
    rounds(pair, range(2))


@pytest.mark.nightly
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_every_pair_at_once_ends_as_one_after_the_other(pair: tuple[str, str], rounds: Callable[..., None]) -> None:
    rounds(pair, range(20))


@pytest.mark.storage
@pytest.mark.parametrize("pair", SAMPLE[:1], ids="-".join)
def test_a_pair_at_once_on_an_object_store_ends_as_on_a_disk(
    pair: tuple[str, str], rounds: Callable[..., None], store: Store
) -> None:
    rounds(pair, range(2), store)


@pytest.mark.nightly
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_every_pair_at_once_on_an_object_store_ends_as_on_a_disk(
    pair: tuple[str, str], rounds: Callable[..., None], store: Store
) -> None:
    rounds(pair, range(20), store)
