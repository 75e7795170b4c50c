"""From drift to a new champion: an ordinary month raises no alert, a world that turned over does, and asks for one
training."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from mlplatform.environment import Environment
from mlplatform.pipelines.infer import infer
from mlplatform.pipelines.monitor import monitor
from mlplatform.pipelines.retrain import due, retrain
from mlplatform.registry.store import Registry
from mlplatform.storage.ops import ALERTS
from steps import advance, overlay, read
from tiny.deliveries import TURN

LoadEnv = Callable[..., Environment]
MONTH = timedelta(days=28)


@pytest.fixture(scope="module")
def ordinary(
    world: Path, duplicate: Callable[[Path, Path], Path], tmp_path_factory: pytest.TempPathFactory, load_env: LoadEnv
) -> Path:
    """The champion of `world` has scored until the day of the turn, and is monitored. Not to be changed."""
    project = duplicate(world, tmp_path_factory.mktemp("ordinary") / "project")
    settings = {"retraining": {"mode": "triggered", "cooldown": "20d"}, "inference": {"first_window": "60d"}}
    go_on(load_env("prod", project, overlay(project, "triggered", {"pipelines": settings})), TURN)
    return project


@pytest.fixture(scope="module")
def turned(ordinary: Path, duplicate: Callable[[Path, Path], Path], load_env: LoadEnv) -> Path:
    """Four weeks after the turn. Not to be changed."""
    project = duplicate(ordinary, ordinary.parent / "turned")
    go_on(load_env("prod", project, "triggered"), TURN + MONTH)
    return project


def go_on(env: Environment, as_of: datetime) -> None:
    """Bring an environment up to a time: its data, its predictions, its alerts."""
    advance(env, as_of)
    infer(env, as_of)
    monitor(env, as_of)


def asks(env: Environment) -> pl.DataFrame:
    """The alerts that ask for retraining."""
    alerts = read(env, ALERTS)
    return alerts.filter(pl.col("action") == "retrain") if alerts.width else alerts


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
