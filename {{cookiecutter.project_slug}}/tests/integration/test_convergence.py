"""Convergence: a pipeline is a function of `as_of`. Backfills equal replays, and a second run or a killed one ends the same."""

import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import wraps
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from {{ cookiecutter.package_name }}.environment import RUNS, Environment
from {{ cookiecutter.package_name }}.lakehouse.retention import expire
from {{ cookiecutter.package_name }}.lakehouse.settings import Settings as LakehouseSettings
from {{ cookiecutter.package_name }}.lakehouse.tables import Tables
from {{ cookiecutter.package_name }}.pipelines.deploy import deploy
from {{ cookiecutter.package_name }}.pipelines.featurize import featurize
from {{ cookiecutter.package_name }}.pipelines.infer import infer
from {{ cookiecutter.package_name }}.pipelines.ingest import ingest
from {{ cookiecutter.package_name }}.pipelines.monitor import monitor
from {{ cookiecutter.package_name }}.pipelines.retrain import retrain
from {{ cookiecutter.package_name }}.pipelines.train import train
from {{ cookiecutter.package_name }}.registry.approval import rollback
from {{ cookiecutter.package_name }}.registry.store import Registry
from {{ cookiecutter.package_name }}.usecase.replay import land

pytestmark = pytest.mark.xdist_group("convergence")

LoadEnv = Callable[..., Environment]
Duplicate = Callable[[Path, Path], Path]
Pipeline = Callable[[Environment, datetime], object]

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
# What a clock on the wall, or the number of a run, decides.
WALL_CLOCK = ("ingested_at", "scored_at", "recorded_at", "run_id")
WALL_CLOCK_METRICS = ("run_seconds", "rows_per_second")
# Of several batches, or of one, the rows are the same; the files and lines they came in are not.
PROVENANCE = ("source_file", "source_row")
# Small batches, an alert that never ends, and a training every week: every pipeline has something to write.
STORY = {
    "pipelines": {
        "inference": {"batch_window": "3d"},
        "retraining": {"mode": "scheduled", "every": "7d"},
    },
    "monitoring": {"rules": [{"name": "rows arrive", "metric": "rows", "columns": ["silver.*"], "above": 0}]},
}


def advance(env: Environment, as_of: datetime) -> None:
    """Bring an environment's data up to a time."""
    land(env.project / env.settings(LakehouseSettings).landing, as_of)
    ingest(env, as_of)
    featurize(env, as_of)


def tidy(rows: object, without: tuple[str, ...] = ()) -> pl.DataFrame:
    """Rows in an order of their own: by every column that is no float."""
    frame = pl.DataFrame(rows).drop(*WALL_CLOCK, *without, strict=False)
    return frame.sort([name for name, kind in frame.schema.items() if not kind.is_float()])


def tables(env: Environment) -> dict[str, pl.DataFrame]:
    """Every table but `ops.runs`, without what the wall clock decides."""
    found = {name: tidy(pl.from_arrow(env.tables.read(name))) for name in env.tables.names() if name != RUNS}
    if "monitoring.metrics" in found:
        metrics = found["monitoring.metrics"]
        found["monitoring.metrics"] = metrics.filter(~pl.col("metric").is_in(WALL_CLOCK_METRICS))
    return found


def registered(env: Environment) -> dict[str, Any]:
    """What MLflow's registry says of the environment's model."""
    registry = Registry(env)
    versions = registry.versions()
    if not versions:
        return {}
    aliases = registry.client.get_registered_model(registry.model).aliases
    return {
        "aliases": {alias: int(version) for alias, version in aliases.items()},
        **{f"version {v.version}": {"description": v.description, **v.tags} for v in versions},
    }


def state(env: Environment) -> tuple[dict[str, pl.DataFrame], dict[str, Any]]:
    return tables(env), registered(env)


def assert_same(found: Environment, expected: tuple[dict[str, pl.DataFrame], dict[str, Any]]) -> None:
    frames, models = expected
    ours = tables(found)
    assert list(ours) == list(frames)
    for name, frame in frames.items():
        try:
            assert_equal(ours[name], frame)
        except AssertionError as error:
            error.add_note(f"the table is {name}")
            raise
    assert registered(found) == models


def assert_equal(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert_frame_equal(found, expected, check_exact=False, rel_tol=1e-9, abs_tol=1e-9)


def moments(start: datetime, end: datetime, number: int) -> list[datetime]:
    """Times to the minute, chosen at random once and for all; the first is on the hour."""
    draw = random.Random(0)
    minutes = [draw.randrange(int((end - start) / timedelta(minutes=1))) for _ in range(number)]
    return [start + timedelta(minutes=m - m % 60 if i == 0 else m) for i, m in enumerate(minutes)]


# ---------------------------------------------------------------------------- backfill and replay


@pytest.mark.parametrize("time", moments(datetime(2013, 1, 3), datetime(2013, 1, 12), 3), ids=str)
def test_a_backfill_as_it_was_known_at_a_time_equals_a_run_at_that_time(
    world: Path, blank: Path, load_env: LoadEnv, time: datetime
) -> None:
    backfill, run = load_env("prod", world), load_env("prod", blank)
    advance(run, time)
    names = [name for name in run.tables.names() if name.startswith(("silver.", "features."))]
    assert names == [name for name in backfill.tables.names() if name.startswith(("silver.", "features."))]
    for name in names:
        known = backfill.engine.query(f"SELECT * FROM {name}", as_of=time)
        assert known.num_rows > 0
        assert_equal(tidy(pl.from_arrow(run.tables.read(name)), PROVENANCE), tidy(pl.from_arrow(known), PROVENANCE))


def test_features_brought_up_step_by_step_equal_a_backfill(world: Path, blank: Path, load_env: LoadEnv) -> None:
    env = load_env("prod", blank)
    # Longer and shorter steps, after more history than any window reaches back.
    start = datetime(2013, 1, 11, 3, 30)
    steps = [start, *(start + hours * HOUR for hours in (0.5, 7.25, 19.25, 20.5, 45))]
    for step in steps:
        advance(env, step)
    backfill = load_env("prod", world)
    for name in [name for name in env.tables.names() if name.startswith(("silver.", "features."))]:
        known = backfill.engine.query(f"SELECT * FROM {name}", as_of=steps[-1])
        assert_equal(tidy(pl.from_arrow(env.tables.read(name)), PROVENANCE), tidy(pl.from_arrow(known), PROVENANCE))


def test_what_expired_stays_away(blank: Path, load_env: LoadEnv) -> None:
    staging = load_env("staging", blank)
    advance(staging, datetime(2013, 1, 3))
    advance(staging, datetime(2013, 1, 5))
    limit = staging.settings(LakehouseSettings).expire_after
    assert limit
    later = datetime(2013, 1, 4) + limit
    expire(staging, later)
    kept = tables(staging)
    assert kept["silver.arrivals"]["source_file"].unique().to_list() == ["arrivals/20130105T000000Z.csv"]
    expire(staging, later)
    ingest(staging, later)
    assert_same(staging, (kept, {}))


# ------------------------------------------------------------------------ a round of all pipelines


@pytest.fixture(scope="module")
def later(now: datetime) -> datetime:
    """The `as_of` of the round: a Monday, on which a window of monitoring ends."""
    return now + 10 * DAY


@pytest.fixture(scope="module")
def story(
    world: Path, tmp_path_factory: pytest.TempPathFactory, load_env: LoadEnv, duplicate: Duplicate, later: datetime
) -> dict[str, Path]:
    """Ten days after `world` every pipeline runs once: copies of the project as each one left it."""
    folder = tmp_path_factory.mktemp("story")
    project = duplicate(world, folder / "project")
    (project / "conf" / "story.yml").write_text(yaml.safe_dump(STORY), encoding="utf-8")
    land(project / "data" / "landing", later)
    after = {"land": duplicate(project, folder / "land")}
    env = load_env("prod", project, "story")
    for name in ("ingest", "featurize", "infer", "monitor", "train", "deploy"):
        PIPELINES[name](env, later)
        after[name] = duplicate(project, folder / name)
    assert Registry(env).ledger.champion(later) == 2
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
    small = load_env("prod", duplicate(large.project, tmp_path / "small"), "story")

    rollback(Registry(large), change, "a person", "version 2 is in doubt")
    infer(large, end)
    for step in range(1, 9):
        as_of = later + step * 6 * HOUR
        if as_of - 6 * HOUR < change <= as_of:
            rollback(Registry(small), change, "a person", "version 2 is in doubt")
        infer(small, as_of)

    (name,) = [name for name in large.tables.names() if name.startswith("predictions.")]
    scored = pl.DataFrame(pl.from_arrow(large.tables.read(name))).filter(pl.col("prediction_time") > later)
    served = scored.group_by("model_version").agg(first=pl.min("prediction_time"), last=pl.max("prediction_time"))
    assert dict(zip(served["model_version"], served["last"] <= change, strict=True)) == {2: True, 1: False}
    assert dict(zip(served["model_version"], served["first"] > change, strict=True)) == {2: False, 1: True}
    assert_equal(tables(small)[name], tables(large)[name])


# ----------------------------------------------------------------------------- killed and run again


class Killed(BaseException):
    """The process is dead: whatever it still tries to write fails."""


class Mortal:
    """Lets a process make so many writes to tables and registry, and no more; `writes` names those it tried.

    To die after a write is to die before the next one: nothing else reaches the disk in between.
    """

    TABLES = ("append", "replace", "upsert", "delete")
    REGISTRY = (
        "create_model_version",
        "set_model_version_tag",
        "update_model_version",
        "set_registered_model_alias",
        "delete_registered_model_alias",
    )

    def __init__(self, patch: pytest.MonkeyPatch, survives: int) -> None:
        from mlflow import MlflowClient

        self.writes: list[str] = []
        self._survives = survives
        self._inside = False
        for owner, names in ((Tables, self.TABLES), (MlflowClient, self.REGISTRY)):
            for name in names:
                patch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, write: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(write)
        def counted(*arguments: Any, **named: Any) -> Any:
            if self._inside:
                return write(*arguments, **named)
            self.writes.append(f"{write.__name__}({arguments[1]})")
            if len(self.writes) > self._survives:
                raise Killed(self.writes[self._survives])
            self._inside = True
            try:
                return write(*arguments, **named)
            finally:
                self._inside = False

        return counted


def deaths(
    run: Pipeline,
    start: Path,
    folder: Path,
    open_project: Callable[[Path], Environment],
    duplicate: Duplicate,
    as_of: datetime,
) -> Iterator[tuple[str, Environment]]:
    """Kill `run` before each of its writes, each time in a new copy of `start`, and run it again; yield what it died of."""
    for survives in count():
        env = open_project(duplicate(start, folder / f"killed-{survives}"))
        with pytest.MonkeyPatch.context() as patch:
            Mortal(patch, survives)
            try:
                run(env, as_of)
            except Killed as death:
                reason = f"killed before write {survives + 1}: {death}"
            else:
                return
        reborn = open_project(env.project)
        run(reborn, as_of)
        yield reason, reborn


def assert_survives(
    found: Iterator[tuple[str, Environment]], expected: tuple[dict[str, pl.DataFrame], dict[str, Any]], least: int
) -> None:
    number = 0
    for reason, env in found:
        number += 1
        try:
            assert_same(env, expected)
        except AssertionError as error:
            error.add_note(reason)
            raise
    assert number >= least, "too few writes were seen: the test kills nothing"


def spoil(landing: Path) -> None:
    """Land a file per source with rows that were there before, one that no contract allows and one of the wrong width."""
    for folder in landing.iterdir():
        (newest,) = folder.glob("20130102T000000Z.csv")
        header, *lines = newest.read_text(encoding="utf-8").splitlines()
        broken = ["x" * 9 if name == "origin" else value for name, value in zip(header.split(","), lines[0].split(","))]
        rows = [header, *lines[:2], ",".join(broken), "too,short"]
        (folder / "20130102T120000Z.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.mark.parametrize("name", ["ingest", "featurize"])
def test_data_pipelines_killed_anywhere_and_run_again_end_the_same(
    name: str, blank: Path, tmp_path: Path, load_env: LoadEnv, duplicate: Duplicate
) -> None:
    def open_project(project: Path) -> Environment:
        return load_env("prod", project)

    env, landing, end = open_project(blank), blank / "data" / "landing", datetime(2013, 1, 3, 6, 15)
    advance(env, datetime(2013, 1, 2))
    land(landing, end)
    spoil(landing)
    if name == "featurize":
        ingest(env, end)
    start = duplicate(blank, tmp_path / "start")
    PIPELINES[name](env, end)
    found = deaths(PIPELINES[name], start, tmp_path, open_project, duplicate, end)
    assert_survives(found, state(env), least=len(env.tables.names()) // 4)


@pytest.mark.parametrize("name", ["infer", "monitor", "train", "deploy"])
def test_model_pipelines_killed_anywhere_and_run_again_end_the_same(
    name: str, story: dict[str, Path], tmp_path: Path, load_env: LoadEnv, duplicate: Duplicate, later: datetime
) -> None:
    def open_project(project: Path) -> Environment:
        return load_env("prod", project, "story")

    found = deaths(PIPELINES[name], before(story, name), tmp_path, open_project, duplicate, later)
    assert_survives(found, state(open_project(story[name])), least=3)
