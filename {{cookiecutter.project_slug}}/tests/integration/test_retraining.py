"""From drift to a new champion: an ordinary month raises no alert, a world that turned over does, and asks for one
training."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from {{ cookiecutter.package_name }}.environment import Environment
from {{ cookiecutter.package_name }}.lakehouse.settings import Settings
from {{ cookiecutter.package_name }}.pipelines.featurize import featurize
from {{ cookiecutter.package_name }}.pipelines.infer import infer
from {{ cookiecutter.package_name }}.pipelines.ingest import ingest
from {{ cookiecutter.package_name }}.pipelines.monitor import ALERTS, monitor
from {{ cookiecutter.package_name }}.pipelines.retrain import due, retrain
from {{ cookiecutter.package_name }}.registry.store import Registry
from {{ cookiecutter.package_name }}.usecase.replay import TURN, land

pytestmark = pytest.mark.xdist_group("integration")

LoadEnv = Callable[..., Environment]
MONTH = timedelta(days=28)


@pytest.fixture(scope="module")
def ordinary(
    world: Path, duplicate: Callable[[Path, Path], Path], tmp_path_factory: pytest.TempPathFactory, load_env: LoadEnv
) -> Path:
    """The champion of `world` has scored until the day of the turn, and is monitored. Not to be changed."""
    project = duplicate(world, tmp_path_factory.mktemp("ordinary") / "project")
    settings = "pipelines: {retraining: {mode: triggered, cooldown: 20d}, inference: {first_window: 60d}}\n"
    (project / "conf" / "triggered.yml").write_text(settings, encoding="utf-8")
    advance(load_env("prod", project, "triggered"), TURN)
    return project


@pytest.fixture(scope="module")
def turned(ordinary: Path, duplicate: Callable[[Path, Path], Path], load_env: LoadEnv) -> Path:
    """Four weeks after the turn. Not to be changed."""
    project = duplicate(ordinary, ordinary.parent / "turned")
    advance(load_env("prod", project, "triggered"), TURN + MONTH)
    return project


def advance(env: Environment, as_of: datetime) -> None:
    land(env.project / env.settings(Settings).landing, as_of)
    for pipeline in (ingest, featurize, infer, monitor):
        pipeline(env, as_of)


def asks(env: Environment) -> pl.DataFrame:
    """The alerts that ask for retraining."""
    if not env.tables.exists(ALERTS):
        return pl.DataFrame()
    return pl.DataFrame(pl.from_arrow(env.tables.read(ALERTS))).filter(pl.col("action") == "retrain")


def test_ordinary_weeks_ask_for_nothing(ordinary: Path, load_env: LoadEnv) -> None:
    prod = load_env("prod", ordinary, "triggered")
    assert asks(prod).is_empty()
    assert due(prod, TURN) == ""


def test_a_world_that_turned_over_asks_for_one_training_which_ends_with_a_decision(
    turned: Path, tmp_path: Path, duplicate: Callable[[Path, Path], Path], load_env: LoadEnv
) -> None:
    now = TURN + MONTH
    prod = load_env("prod", duplicate(turned, tmp_path / "project"), "triggered")
    assert asks(prod)["window_end"].min() > TURN  # type: ignore[operator]
    assert [run.pipeline for run in retrain(prod, now)] == ["train", "deploy"]
    ledger = Registry(prod).ledger
    assert next(t for t in ledger.all() if t.version == 2).request_reason.startswith("alert ")
    assert not ledger.pending("Staging", now)
    assert not ledger.pending("Production", now)
    assert due(prod, now + timedelta(days=60)) == "", "the alert was answered"


def test_in_manual_mode_nothing_trains_by_itself(turned: Path, load_env: LoadEnv) -> None:
    assert retrain(load_env("prod", turned), TURN + MONTH) == []
