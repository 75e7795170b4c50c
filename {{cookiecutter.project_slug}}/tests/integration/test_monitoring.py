"""Monitoring and retraining: a drifted month raises the alert, noise does not, and an alert asks for one training."""

import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from {{ cookiecutter.package_name }}.environment import Environment
from {{ cookiecutter.package_name }}.lakehouse.settings import Settings as LakehouseSettings
from {{ cookiecutter.package_name }}.monitoring.metrics import DRIFT
from {{ cookiecutter.package_name }}.monitoring.settings import Settings
from {{ cookiecutter.package_name }}.pipelines.featurize import featurize
from {{ cookiecutter.package_name }}.pipelines.infer import infer
from {{ cookiecutter.package_name }}.pipelines.ingest import ingest
from {{ cookiecutter.package_name }}.pipelines.monitor import ALERTS, METRICS, monitor
from {{ cookiecutter.package_name }}.pipelines.retrain import due, retrain
from {{ cookiecutter.package_name }}.registry.store import Registry
from {{ cookiecutter.package_name }}.usecase import model
from {{ cookiecutter.package_name }}.usecase.replay import land

pytestmark = pytest.mark.xdist_group("integration")

LoadEnv = Callable[..., Environment]
Duplicate = Callable[[Path, Path], Path]
DAY = timedelta(days=1)
# The windows of one week that end on these days are whole; the first prediction was in the first of them.
WEEKS = [datetime(2013, 3, 18), datetime(2013, 3, 25), datetime(2013, 4, 1), datetime(2013, 4, 8)]
SCORES = {"name": "scores have drifted", "metric": "ks", "columns": ["score"], "above": 0.35, "windows": "2 of 3"}
FLIGHTS = {
    "name": "the mix of flights has drifted",
    "metric": "psi",
    "columns": ["origin", "dest", "carrier", "distance", "local_hour"],
    "above": 0.2,
    "windows": "2 of 3",
}


@pytest.fixture(scope="module")
def later(now: datetime) -> datetime:
    """When it is monitored: four weeks after `world`, with all labels of the last whole week."""
    return now + 28 * DAY


@pytest.fixture(scope="module")
def scored(
    world: Path, duplicate: Duplicate, tmp_path_factory: pytest.TempPathFactory, load_env: LoadEnv, later: datetime
) -> Path:
    """The champion of `world` has scored four more weeks, and nothing is monitored yet. Not to be changed."""
    project = duplicate(world, tmp_path_factory.mktemp("scored") / "project")
    prod = load_env("prod", project)
    land(project / prod.settings(LakehouseSettings).landing, later)
    for pipeline in (ingest, featurize, infer):
        pipeline(prod, later)
    held_out = float(Registry(prod).version(1).tags[f"metric.{model.PRIMARY_METRIC}"])
    limit = {"below": 0.6 * held_out} if model.GREATER_IS_BETTER else {"above": 1.4 * held_out}
    performance = {"name": "the model has worsened", "metric": model.PRIMARY_METRIC, "windows": "2 of 3", **limit}
    write(project, "rules", {"monitoring": {"rules": [SCORES, FLIGHTS, performance | {"action": "retrain"}]}})
    return project


@pytest.fixture(scope="module")
def ordinary(scored: Path, duplicate: Duplicate, load_env: LoadEnv, later: datetime) -> Path:
    """Monitored, with nothing wrong. Not to be changed."""
    project = duplicate(scored, scored.parent / "ordinary")
    monitor(load_env("prod", project, "rules"), later)
    return project


@pytest.fixture(scope="module")
def drifted(scored: Path, duplicate: Duplicate, load_env: LoadEnv, later: datetime) -> Path:
    """Monitored, after three weeks in which the champion said late for early. Not to be changed."""
    project = duplicate(scored, scored.parent / "drifted")
    prod = load_env("prod", project, "rules")
    change_scores(prod, WEEKS[0], later)
    monitor(prod, later)
    return project


@pytest.fixture
def copy(duplicate: Duplicate, tmp_path: Path, load_env: LoadEnv) -> LoadEnv:
    """copy(project, **retraining): prod of a copy of a project, with these retraining settings."""

    def load(project: Path, **retraining: str) -> Environment:
        write(duplicate(project, tmp_path / "copy"), "retraining", {"pipelines": {"retraining": retraining}})
        return load_env("prod", tmp_path / "copy", "rules", "retraining")

    return load


def write(project: Path, overlay: str, settings: dict[str, Any]) -> None:
    (project / "conf" / f"{overlay}.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")


def read(env: Environment, name: str) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(env.tables.read(name)))


def change_scores(env: Environment, start: datetime, end: datetime) -> None:
    """Turn the predictions of a span upside down: the highest becomes the lowest, as a mistake in the output would."""
    table = f"predictions.{Registry(env).settings.model}"
    inside = (pl.col("prediction_time") > start) & (pl.col("prediction_time") <= end)
    wrong = pl.when(inside).then(pl.max("score") + pl.min("score") - pl.col("score")).otherwise("score")
    env.tables.replace(table, read(env, table).with_columns(wrong.alias("score")).to_arrow(), where="true")


def raised(env: Environment) -> set[tuple[str, str, datetime]]:
    """Rule, column and window of every alert."""
    if not env.tables.exists(ALERTS):
        return set()
    return set(read(env, ALERTS).select("rule", "column", "window_end").iter_rows())


def test_an_ordinary_month_raises_no_alert(ordinary: Path, load_env: LoadEnv) -> None:
    prod = load_env("prod", ordinary, "rules")
    assert raised(prod) == set()
    # Every rule had something to watch in each window; the first one, in which the champion came, is no whole week.
    measured = read(prod, METRICS)
    for rule in prod.settings(Settings).rules:
        watched = set(measured.filter(pl.col("metric") == rule.metric)["window_end"])
        assert watched == set(WEEKS[1:] if rule.metric in DRIFT else WEEKS)


def test_a_month_of_wrong_scores_raises_the_alerts_once_two_of_three_windows_are_wrong(
    drifted: Path, load_env: LoadEnv
) -> None:
    drift = {(SCORES["name"], "score", end) for end in WEEKS[2:]}
    performance = {("the model has worsened", "", end) for end in WEEKS[2:]}
    assert raised(load_env("prod", drifted, "rules")) == drift | performance


def test_a_month_of_other_flights_raises_the_alert_for_what_has_changed(
    scored: Path, copy: LoadEnv, later: datetime
) -> None:
    prod = copy(scored)
    far = pl.when(pl.col("scheduled_departure") > WEEKS[0]).then(2.5 * pl.col("distance")).otherwise("distance")
    flights = read(prod, "silver.schedule").with_columns(far.alias("distance"))
    prod.tables.replace("silver.schedule", flights.to_arrow(), where="true")
    monitor(prod, later)
    assert raised(prod) == {(FLIGHTS["name"], "distance", end) for end in WEEKS[2:]}


def test_what_a_killed_run_has_told_nobody_the_next_one_tells(
    scored: Path, copy: LoadEnv, later: datetime, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prod = copy(scored)
    change_scores(prod, WEEKS[0], later)

    def die(*_: object) -> list[str]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[monitor.__module__], "notify", die)
        with pytest.raises(KeyboardInterrupt):
            monitor(prod, later)
    assert len(raised(prod)) == 4
    monitor(prod, later)
    assert "4 new alerts" in capsys.readouterr().err
    monitor(prod, later)
    assert capsys.readouterr().err == ""


def test_one_odd_week_raises_no_alert(scored: Path, copy: LoadEnv, later: datetime) -> None:
    prod = copy(scored)
    change_scores(prod, WEEKS[1], WEEKS[2])
    monitor(prod, later)
    odd = read(prod, METRICS).filter(pl.col("metric") == "ks", pl.col("column") == "score", pl.col("value") > 0.35)
    assert odd["window_end"].to_list() == [WEEKS[2]]
    assert raised(prod) == set()


def test_performance_is_measured_once_the_labels_are_in(ordinary: Path, load_env: LoadEnv, later: datetime) -> None:
    prod = load_env("prod", ordinary, "rules")
    rows = read(prod, METRICS)
    coverage = rows.filter(pl.col("metric") == "label_coverage", pl.col("slice") == "all")
    assert coverage["value"].min() > 0.8  # type: ignore[operator]
    delay = prod.settings(Settings).label_delay
    assert (coverage["available_at"] - coverage["window_end"] == delay).all()
    assert (rows["available_at"] <= later).all()


def test_an_alert_leads_to_one_training_and_the_cooldown_is_kept(drifted: Path, copy: LoadEnv, later: datetime) -> None:
    prod = copy(drifted, mode="triggered", cooldown="20d")
    for _ in range(2):
        assert [run.pipeline for run in retrain(prod, later)] == ["train", "deploy"]
        assert len(Registry(prod).versions()) == 2
    request = next(t for t in Registry(prod).ledger.all() if t.version == 2)
    assert request.request_reason.startswith("alert the model has worsened")
    for days in (1, 19, 21, 60):
        assert due(prod, later + days * DAY) == "", "the alert was answered"
    alert = read(prod, ALERTS).filter(pl.col("action") == "retrain").tail(1)
    again = alert.with_columns(window_end=later + 7 * DAY, raised_at=later + 9 * DAY)
    prod.tables.append(ALERTS, again.to_arrow())
    assert due(prod, later + 19 * DAY) == ""
    assert due(prod, later + 20 * DAY).startswith("alert the model has worsened")


def test_the_cooldown_holds_back_an_alert_soon_after_a_training(drifted: Path, copy: LoadEnv, later: datetime) -> None:
    prod = copy(drifted, mode="triggered", cooldown="60d")
    assert retrain(prod, later) == []


def test_an_alert_that_only_notifies_trains_nothing(drifted: Path, copy: LoadEnv, later: datetime) -> None:
    prod = copy(drifted, mode="triggered", cooldown="20d")
    assert due(prod, later)
    prod.tables.delete(ALERTS, "action = 'retrain'")
    assert raised(prod)
    assert retrain(prod, later) == []


def test_in_manual_mode_nothing_trains_by_itself(drifted: Path, copy: LoadEnv, later: datetime) -> None:
    prod = copy(drifted, mode="manual", every="1d", cooldown="1d")
    assert raised(prod)
    assert retrain(prod, later) == []


def test_a_schedule_trains_when_the_time_has_passed(ordinary: Path, copy: LoadEnv, now: datetime) -> None:
    prod = copy(ordinary, mode="scheduled", every="20d")
    assert due(prod, now + 19 * DAY) == ""
    assert due(prod, now + 20 * DAY) == "scheduled every 20 days"
