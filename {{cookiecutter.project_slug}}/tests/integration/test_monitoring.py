"""Monitoring and retraining: a drifted month raises the alert, noise does not, and alerts ask for one training."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml

from {{ cookiecutter.package_name }}.environment import Environment
from {{ cookiecutter.package_name }}.lakehouse.settings import Settings as LakehouseSettings
from {{ cookiecutter.package_name }}.pipelines.featurize import featurize
from {{ cookiecutter.package_name }}.pipelines.infer import infer
from {{ cookiecutter.package_name }}.pipelines.ingest import ingest
from {{ cookiecutter.package_name }}.pipelines.monitor import ALERTS, METRICS, monitor
from {{ cookiecutter.package_name }}.pipelines.retrain import due, retrain
from {{ cookiecutter.package_name }}.registry.store import Registry
from {{ cookiecutter.package_name }}.usecase.replay import land

pytestmark = pytest.mark.xdist_group("integration")

LoadEnv = Callable[..., Environment]
RULE = {"name": "scores have drifted", "metric": "ks", "columns": ["score"], "above": 0.35, "windows": "2 of 3"}


@pytest.fixture(scope="module")
def scored(
    world: Path,
    duplicate: Callable[[Path, Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
    load_env: LoadEnv,
    now: datetime,
) -> Path:
    """Four weeks after `world`: the champion has scored them, nothing is monitored. Not to be changed."""
    project = duplicate(world, tmp_path_factory.mktemp("scored") / "project")
    prod, later = load_env("prod", project), now + timedelta(days=28)
    land(project / prod.settings(LakehouseSettings).landing, later)
    for pipeline in (ingest, featurize, infer):
        pipeline(prod, later)
    return project


@pytest.fixture
def watched(
    scored: Path, duplicate: Callable[[Path, Path], Path], tmp_path: Path, load_env: LoadEnv
) -> Callable[..., Environment]:
    """watched(**retraining): prod of a copy of `scored` with one drift rule and these retraining settings."""

    def load(**retraining: str) -> Environment:
        project = duplicate(scored, tmp_path / "watched")
        overlay = {
            "monitoring": {"rules": [RULE | {"action": "retrain"}]},
            "pipelines": {"retraining": retraining},
        }
        (project / "conf" / "watched.yml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
        return load_env("prod", project, "watched")

    return load


def drift(env: Environment) -> None:
    """Push the scores of the last three weeks towards one end, as a broken input would."""
    table = f"predictions.{Registry(env).settings.model}"
    rows = pl.DataFrame(pl.from_arrow(env.tables.read(table)))
    cut = rows["prediction_time"].max() - timedelta(days=21)  # type: ignore[operator]
    shifted = rows["score"].min() + 0.1 * (rows["score"] - rows["score"].min())
    moved = rows.with_columns(pl.when(pl.col("prediction_time") > cut).then(shifted).otherwise("score").alias("score"))
    env.tables.replace(table, moved.to_arrow(), where="true")


def alerts(env: Environment) -> list[dict[str, object]]:
    return env.tables.read(ALERTS).to_pylist() if env.tables.exists(ALERTS) else []


def test_a_drifted_month_raises_the_alert(watched: LoadEnv, now: datetime) -> None:
    prod = watched(mode="manual")
    drift(prod)
    monitor(prod, now + timedelta(days=28))
    raised = alerts(prod)
    assert {alert["rule"] for alert in raised} == {RULE["name"]}
    assert all(float(str(alert["value"])) > 0.35 for alert in raised)


def test_an_ordinary_month_raises_none(watched: LoadEnv, now: datetime) -> None:
    prod = watched(mode="triggered")
    monitor(prod, now + timedelta(days=28))
    measured = pl.DataFrame(pl.from_arrow(prod.tables.read(METRICS)))
    assert measured.filter(pl.col("metric") == "ks", pl.col("column") == "score").height >= 3
    assert alerts(prod) == []
    assert retrain(prod, now + timedelta(days=28)) == []


def test_performance_is_measured_once_the_labels_are_in(watched: LoadEnv, now: datetime) -> None:
    prod = watched(mode="manual")
    monitor(prod, now + timedelta(days=28))
    rows = pl.DataFrame(pl.from_arrow(prod.tables.read(METRICS)))
    coverage = rows.filter(pl.col("metric") == "label_coverage", pl.col("slice") == "all")
    assert coverage["value"].min() > 0.8  # type: ignore[operator]
    assert (coverage["available_at"] - coverage["window_end"] == timedelta(days=2)).all()
    assert (rows["available_at"] <= now + timedelta(days=28)).all()


def test_an_alert_leads_to_one_training_and_the_cooldown_is_kept(watched: LoadEnv, now: datetime) -> None:
    prod, later = watched(mode="triggered", cooldown="20d"), now + timedelta(days=28)
    drift(prod)
    monitor(prod, later)
    runs = retrain(prod, later)
    assert [run.pipeline for run in runs] == ["train", "deploy"]
    request = next(t for t in Registry(prod).ledger.all() if t.version == 2)
    assert request.request_reason.startswith(f"alert {RULE['name']}")
    assert due(prod, later + timedelta(days=1)) == ""


def test_the_cooldown_holds_back_an_alert_right_after_a_training(watched: LoadEnv, now: datetime) -> None:
    prod, later = watched(mode="triggered", cooldown="60d"), now + timedelta(days=28)
    drift(prod)
    monitor(prod, later)
    assert alerts(prod)
    assert due(prod, later) == ""


def test_in_manual_mode_nothing_trains_by_itself(watched: LoadEnv, now: datetime) -> None:
    prod, later = watched(mode="manual"), now + timedelta(days=28)
    drift(prod)
    monitor(prod, later)
    assert alerts(prod)
    assert retrain(prod, later) == []


def test_a_schedule_trains_when_the_time_has_passed(watched: LoadEnv, now: datetime) -> None:
    prod = watched(mode="scheduled", every="20d")
    assert due(prod, now + timedelta(days=19)) == ""
    assert due(prod, now + timedelta(days=20)) == "scheduled every 20 days"
