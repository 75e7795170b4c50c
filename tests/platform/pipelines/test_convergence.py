"""A pipeline is a function of `as_of`: a backfill equals a replay, and a second run, or a killed one, ends the same."""

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from mlflow import MlflowClient
from polars.testing import assert_frame_equal

from mlplatform.environment import Environment
from mlplatform.pipelines.deploy import deploy
from mlplatform.pipelines.featurize import featurize
from mlplatform.pipelines.infer import infer
from mlplatform.pipelines.ingest import ingest
from mlplatform.pipelines.monitor import monitor
from mlplatform.pipelines.retrain import retrain
from mlplatform.pipelines.train import request_staging, train
from mlplatform.registry.approval import approve, rollback
from mlplatform.registry.store import Registry
from mlplatform.registry.transitions import Decision, Transition
from mlplatform.storage.delta import DeltaCatalog
from mlplatform.storage.landing import NAME_FORMAT
from mlplatform.storage.ops import RUNS
from steps import Killed, Mortal, Writer, advance, overlay
from tiny.deliveries import START, land

LoadEnv = Callable[..., Environment]
Duplicate = Callable[[Path, Path], Path]
Pipeline = Callable[[Environment, datetime], object]
State = tuple[dict[str, pl.DataFrame], dict[str, Any]]
Deaths = Callable[..., Iterator[tuple[str, Environment]]]

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PIPELINES: dict[str, Pipeline] = {
    "ingest": ingest,
    "featurize": featurize,
    "infer": infer,
    "monitor": monitor,
    "train": train,
    "deploy": deploy,
    "retrain": retrain,
}
WRITERS: Sequence[Writer] = [
    *((DeltaCatalog, name) for name in ("append", "replace", "upsert", "delete")),
    *((Registry, name) for name in ("register", "reconcile")),
]
# What a clock on the wall, or the number of a run, decides.
WALL_CLOCK = ("ingested_at", "scored_at", "recorded_at", "run_id")
WALL_CLOCK_METRICS = ("run_seconds", "rows_per_second")
# Of several batches, or of one, the rows are the same; the files and lines they came in are not.
PROVENANCE = ("source_file", "source_row")
SEEN: dict[tuple[str, frozenset[str]], pl.DataFrame] = {}
# A training every week and an alert that never ends: every pipeline has something to write.
STORY: dict[str, Any] = {
    "pipelines": {"retraining": {"mode": "scheduled", "every": "7d"}},
    "monitoring": {"rules": [{"name": "rows arrive", "metric": "rows", "columns": ["silver.*"], "above": 0}]},
}


def tidy(rows: Any, without: tuple[str, ...] = ()) -> pl.DataFrame:
    """Rows in an order of their own: by every column that is no float."""
    frame = pl.DataFrame(rows).drop(*WALL_CLOCK, *without, strict=False)
    return frame.sort([name for name, kind in frame.schema.items() if not kind.is_float()])


def rows_of(env: Environment, name: str) -> pl.DataFrame:
    """A table without what the wall clock decides. Delta's files never change: the same files are read once."""
    files = frozenset(Path(file).name for file in env.catalog.snapshot(name).files)
    if (name, files) not in SEEN:
        rows = tidy(env.catalog.read(name))
        SEEN[name, files] = rows.filter(~pl.col("metric").is_in(WALL_CLOCK_METRICS)) if "metric" in rows else rows
    return SEEN[name, files]


def tables(env: Environment) -> dict[str, pl.DataFrame]:
    return {name: rows_of(env, name) for name in env.catalog.names() if name != RUNS}


def registered(env: Environment) -> dict[str, Any]:
    """What MLflow's registry says of the environment's model; nothing where there is no registry yet."""
    if not (env.folder / "data" / "mlflow").exists():
        return {}
    registry = Registry(env)
    versions = registry.versions()
    aliases = registry.client.get_registered_model(registry.model).aliases
    return {
        "aliases": {alias: int(version) for alias, version in aliases.items()},
        **{f"version {v.version}": {"description": v.description, **v.tags} for v in versions},
    }


def state(env: Environment) -> State:
    return tables(env), registered(env)


def assert_same(found: Environment, expected: State, when: str = "") -> None:
    """The tables and the registry are as `expected`; a failure names the table and `when`."""
    frames, models = expected
    ours = tables(found)
    assert list(ours) == list(frames), when
    for name, frame in frames.items():
        try:
            if ours[name] is not frame:
                assert_equal(ours[name], frame)
        except AssertionError as error:
            raise AssertionError(f"{name} differs {when}\n{error}") from error
    assert registered(found) == models, when


def assert_equal(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert_frame_equal(found, expected, check_exact=False, rel_tol=1e-9, abs_tol=1e-9)


def moments(start: datetime, end: datetime, number: int) -> list[datetime]:
    """Times to the minute, chosen at random once and for all; the first is on the hour."""
    draw = random.Random(0)
    minutes = [draw.randrange(int((end - start) / timedelta(minutes=1))) for _ in range(number)]
    return [start + timedelta(minutes=m - m % 60 if i == 0 else m) for i, m in enumerate(minutes)]


@pytest.mark.parametrize("time", moments(START + 3 * DAY, START + 12 * DAY, 3), ids=str)
def test_a_backfill_as_it_was_known_at_a_time_equals_a_run_at_that_time(
    world: Path, blank: Path, load_env: LoadEnv, time: datetime
) -> None:
    backfill, run = load_env("prod", world), load_env("prod", blank)
    advance(run, time)
    names = [name for name in run.catalog.names() if name.startswith(("silver.", "features."))]
    assert names == [name for name in backfill.catalog.names() if name.startswith(("silver.", "features."))]
    for name in names:
        known = backfill.engine.query(f"SELECT * FROM {name}", as_of=time)
        assert known.count() > 0
        assert_equal(tidy(run.catalog.read(name), PROVENANCE), tidy(known, PROVENANCE))


def test_features_brought_up_step_by_step_equal_a_backfill(world: Path, blank: Path, load_env: LoadEnv) -> None:
    env = load_env("prod", blank)
    # Longer and shorter steps, after more history than any window reaches back.
    start = START + 10 * DAY + 3.5 * HOUR
    steps = [start, *(start + hours * HOUR for hours in (0.5, 7.25, 19.25, 20.5, 45))]
    for step in steps:
        advance(env, step)
    backfill = load_env("prod", world)
    for name in [name for name in env.catalog.names() if name.startswith(("silver.", "features."))]:
        known = backfill.engine.query(f"SELECT * FROM {name}", as_of=steps[-1])
        assert_equal(tidy(env.catalog.read(name), PROVENANCE), tidy(known, PROVENANCE))


@pytest.fixture(scope="module")
def later(now: datetime) -> datetime:
    """The `as_of` of the round: a Monday, on which a window of monitoring ends."""
    return now + 10 * DAY


@pytest.fixture(scope="module")
def story(
    world: Path, tmp_path_factory: pytest.TempPathFactory, load_env: LoadEnv, duplicate: Duplicate, later: datetime
) -> dict[str, Path]:
    """Ten days after `world` every pipeline runs once: copies of the project as each one left it.

    In the meantime a person has put a version into Production that saw little; so the new challenger wins.
    """
    folder = tmp_path_factory.mktemp("story")
    project = duplicate(world, folder / "project")
    overlay(project, "story", STORY)
    overlay(project, "hasty", {"training": {"fraction": 0.05, "min_rows": 5}})
    env = load_env("prod", project, "story")
    change = later - 5 * DAY
    train(load_env("prod", project, "hasty"), change)
    registry = Registry(env)
    request = Transition(registry.model, 2, "None", "Production", change, "a person", "in a hurry")
    approve(registry, request, Decision(change, "a person", "trust me"))
    land(env.landing, later)
    after = {"land": duplicate(project, folder / "land")}
    for name in ("ingest", "featurize", "infer", "monitor", "train", "deploy"):
        PIPELINES[name](env, later)
        after[name] = duplicate(project, folder / name)
    assert registry.ledger.champion(later) == 3
    return after


def before(story: dict[str, Path], name: str) -> Path:
    names = list(story)
    return story[names[names.index(name) - 1]]


@pytest.mark.parametrize("name", PIPELINES)
def test_a_second_run_for_the_same_time_changes_nothing(
    name: str, story: dict[str, Path], tmp_path: Path, load_env: LoadEnv, duplicate: Duplicate, later: datetime
) -> None:
    env = load_env("prod", duplicate(story["deploy"], tmp_path / "again"), "story")
    expected = state(env)
    PIPELINES[name](env, later)
    assert_same(env, expected)


def test_one_large_batch_of_inference_equals_many_small_ones_also_where_the_champion_changes(
    story: dict[str, Path], tmp_path: Path, load_env: LoadEnv, duplicate: Duplicate, later: datetime
) -> None:
    change, end = later + 20 * HOUR + timedelta(minutes=30), later + 2 * DAY
    large = load_env("prod", duplicate(story["deploy"], tmp_path / "large"), "story")
    advance(large, end)
    small = load_env("prod", duplicate(large.folder, tmp_path / "small"), "story")

    doubt = Decision(change, "a person", "version 3 is in doubt")
    rollback(Registry(large), doubt)
    infer(large, end)
    for step in range(1, 9):
        as_of = later + step * 6 * HOUR
        if as_of - 6 * HOUR < change <= as_of:
            rollback(Registry(small), doubt)
        infer(small, as_of)

    (name,) = [name for name in large.catalog.names() if name.startswith("predictions.")]
    scored = pl.DataFrame(large.catalog.read(name)).filter(pl.col("prediction_time") > later)
    served = scored.group_by("model_version").agg(first=pl.min("prediction_time"), last=pl.max("prediction_time"))
    assert dict(zip(served["model_version"], served["last"] <= change, strict=True)) == {3: True, 2: False}
    assert dict(zip(served["model_version"], served["first"] > change, strict=True)) == {3: False, 2: True}
    assert_equal(tables(small)[name], tables(large)[name])


@pytest.fixture
def deaths(tmp_path: Path, duplicate: Duplicate, stride: int) -> Deaths:
    """deaths(run, start, load): kill `run` after each of its writes, or of some of them where it is not night, and run
    it again, until nothing is left to kill.

    Each time begins with a copy of the project `start`, which `load` opens, and yields how it died and where it ended.
    With `first=0` it is killed before its first write, too.
    """

    def kill(
        run: Callable[[Environment], object],
        start: Path,
        load: Callable[[Path], Environment],
        writers: Sequence[Writer] = WRITERS,
        first: int = 1,
    ) -> Iterator[tuple[str, Environment]]:
        for survives in count(first, stride):
            project = duplicate(start, tmp_path / f"killed-{survives}")
            with pytest.MonkeyPatch.context() as patch:
                mortal = Mortal(patch, survives, writers)
                try:
                    run(load(project))
                except Killed:
                    pass
                else:
                    assert survives > first, "the test kills nothing"
                    return
            reborn = load(project)
            run(reborn)
            yield f"killed before write {survives + 1}, {mortal.cause}", reborn

    return kill


def spoil(folder: Path, first: datetime, at: datetime) -> None:
    """Land files of both sources with a row that was there before, one that is there twice, one that no contract allows
    and one too short."""
    for source in ("items", "outcomes"):
        header, *lines = (folder / source / f"{first:{NAME_FORMAT}}.csv").read_text(encoding="utf-8").splitlines()
        item, _, *rest = lines[1].split(",")
        twice = lines[0].replace(lines[0].split(",")[0], "item-900000")
        rows = [header, lines[0], twice, twice, ",".join([item, "nowhere", *rest]), "too,short"]
        (folder / source / f"{at:{NAME_FORMAT}}.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.mark.parametrize("name", ["ingest", "featurize"])
def test_data_pipelines_killed_anywhere_and_run_again_end_the_same(
    name: str, blank: Path, tmp_path: Path, load_env: LoadEnv, duplicate: Duplicate, deaths: Deaths
) -> None:
    def load(project: Path) -> Environment:
        return load_env("prod", project, "lenient")

    overlay(blank, "lenient", {"lakehouse": {"max_refused_share": 0.5}})
    env, first, end = load(blank), START + 3 * DAY, START + 4 * DAY + 6.25 * HOUR
    advance(env, first)
    land(env.landing, end)
    spoil(env.landing, first, first + 12 * HOUR)
    if name == "featurize":
        ingest(env, end)
    start = duplicate(blank, tmp_path / "start")
    PIPELINES[name](env, end)
    expected = state(env)
    for manner, reborn in deaths(lambda env: PIPELINES[name](env, end), start, load):
        assert_same(reborn, expected, manner)


@pytest.mark.parametrize("name", ["infer", "monitor", "train", "deploy"])
def test_model_pipelines_killed_anywhere_and_run_again_end_the_same(
    name: str,
    story: dict[str, Path],
    load_env: LoadEnv,
    later: datetime,
    deaths: Deaths,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def load(project: Path) -> Environment:
        return load_env("prod", project, "story")

    expected = state(load(story[name]))
    # A training leaves a run in MLflow before it writes anything else.
    first = 0 if name == "train" else 1
    for manner, reborn in deaths(lambda env: PIPELINES[name](env, later), before(story, name), load, first=first):
        assert_same(reborn, expected, manner)
        if name == "monitor":
            assert "4 new alerts" in capsys.readouterr().err, f"nobody was told: {manner}"


def test_a_deployment_killed_anywhere_leaves_one_challenger_to_wait_for_a_person(
    trained: Path, tmp_path: Path, load_env: LoadEnv, now: datetime, duplicate: Duplicate, deaths: Deaths
) -> None:
    def load(project: Path) -> Environment:
        return load_env("prod", project, "manual")

    project = duplicate(trained, tmp_path / "waiting")
    overlay(project, "manual", {"registry": {"approval": "manual"}})
    env = load(project)
    deploy(env, now)
    registry = Registry(env)
    first = registry.version(1)
    second = registry.register(first.run_id, first.source, replace(registry.tags(1), identity="the same again"))
    request_staging(registry, second, now + HOUR, "a newer one")
    start = duplicate(project, tmp_path / "start")
    (*_, note) = deploy(env, now + DAY).notes
    assert note.startswith(f"version {second} waits for approval"), "the first one's run has told nobody of it"
    expected = state(env)
    assert [t.version for t in registry.ledger.pending("Production", now + DAY)] == [second]
    for manner, reborn in deaths(lambda env: deploy(env, now + DAY), start, load):
        assert_same(reborn, expected, manner)
        assert list(reborn.reports.glob(f"review/*-v{second}/review.md")), f"nothing to review: {manner}"


def test_mlflow_killed_anywhere_while_it_takes_over_the_stages_shows_them_in_the_end(
    story: dict[str, Path], tmp_path: Path, load_env: LoadEnv, duplicate: Duplicate, deaths: Deaths
) -> None:
    def load(project: Path) -> Environment:
        return load_env("prod", project, "story")

    start = duplicate(story["train"], tmp_path / "start")
    tables = load(start).reports
    shutil.rmtree(tables / "ops")
    shutil.copytree(load(story["deploy"]).reports / "ops", tables / "ops")
    expected = registered(load(story["deploy"]))
    assert registered(load(start)) != expected

    changes = ("set_model_version_tag", "update_model_version", "set_registered_model_alias")
    writers = [(MlflowClient, name) for name in (*changes, "delete_registered_model_alias")]
    for manner, reborn in deaths(lambda env: Registry(env).reconcile(), start, load, writers):
        assert registered(reborn) == expected, manner
