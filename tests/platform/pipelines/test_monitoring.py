"""Monitoring and retraining: a drifted month raises the alert, noise does not, and an alert asks for one training."""

import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mlplatform.environment import Environment
from mlplatform.monitoring.metrics import DRIFT
from mlplatform.pipelines.infer import infer
from mlplatform.pipelines.monitor import monitor
from mlplatform.pipelines.retrain import due, retrain
from mlplatform.registry.store import Registry
from mlplatform.storage.catalog import Among, Window
from mlplatform.storage.ops import ALERTS, METRICS
from steps import advance, overlay, read
from tiny.project import PROJECT

LoadEnv = Callable[..., Environment]
Duplicate = Callable[[Path, Path], Path]
DAY = timedelta(days=1)
# The windows of one week that end on these days are whole; the first prediction was in the first of them.
WEEKS = [datetime(2025, 3, 17), datetime(2025, 3, 24), datetime(2025, 3, 31), datetime(2025, 4, 7)]
SCORES = {"name": "scores have drifted", "metric": "ks", "columns": ["score"], "above": 0.35, "windows": "2 of 3"}
ITEMS = {
    "name": "the mix of items has drifted",
    "metric": "psi",
    "columns": ["kind", "amount"],
    "above": 0.3,
    "windows": "2 of 3",
}
PRIMARY = PROJECT.model.primary
PERFORMANCE = {"name": "the model has worsened", "metric": PRIMARY.name, "windows": "2 of 3", "action": "retrain"}
# Few rows a week: few bins, and a week says something with few of them. Of the last day's labels half come too late.
FEW = {"min_rows": 15, "psi_bins": 4, "label_delay": "1d"}


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
    advance(prod, later)
    infer(prod, later)
    limit = 0.6 * float(Registry(prod).version(1).tags[f"metric.{PRIMARY.name}"])
    overlay(project, "rules", {"monitoring": {**FEW, "rules": [SCORES, ITEMS, PERFORMANCE | {"below": limit}]}})
    return project


@pytest.fixture(scope="module")
def ordinary(scored: Path, duplicate: Duplicate, load_env: LoadEnv, later: datetime) -> Path:
    """Monitored, with nothing wrong. Not to be changed."""
    project = duplicate(scored, scored.parent / "ordinary")
    monitor(load_env("prod", project, "rules"), later)
    return project


@pytest.fixture(scope="module")
def drifted(scored: Path, duplicate: Duplicate, load_env: LoadEnv, later: datetime) -> Path:
    """Monitored, after three weeks of wrong scores. Not to be changed."""
    project = duplicate(scored, scored.parent / "drifted")
    prod = load_env("prod", project, "rules")
    change_scores(prod, WEEKS[0], later)
    monitor(prod, later)
    return project


@pytest.fixture
def copy(duplicate: Duplicate, tmp_path: Path, load_env: LoadEnv) -> LoadEnv:
    """copy(project, **retraining): prod of a copy of a project, with these retraining settings."""

    def load(project: Path, **retraining: str) -> Environment:
        overlay(duplicate(project, tmp_path / "copy"), "retraining", {"pipelines": {"retraining": retraining}})
        return load_env("prod", tmp_path / "copy", "rules", "retraining")

    return load


def change_scores(env: Environment, start: datetime, end: datetime) -> None:
    """Turn the predictions of a span upside down and make them small, as a mistake in the output would."""
    table = f"predictions.{Registry(env).settings.model}"
    inside = (pl.col("prediction_time") > start) & (pl.col("prediction_time") <= end)
    wrong = pl.when(inside).then((pl.max("score") - pl.col("score")) / 2).otherwise("score")
    env.catalog.replace(table, read(env, table).with_columns(wrong.alias("score")).to_arrow(), Window("available_at"))


def raised(env: Environment) -> set[tuple[str, str, datetime]]:
    """Rule, column and window of every alert."""
    alerts = read(env, ALERTS)
    return set(alerts.select("rule", "column", "window_end").iter_rows()) if alerts.width else set()


def test_an_ordinary_month_raises_no_alert(ordinary: Path, load_env: LoadEnv) -> None:
    prod = load_env("prod", ordinary, "rules")
    assert raised(prod) == set()
    # Every rule had something to watch in each window; the first one, in which the champion came, is no whole week.
    measured = read(prod, METRICS)
    for rule in prod.config.monitoring.rules:
        watched = set(measured.filter(pl.col("metric") == rule.metric)["window_end"])
        assert watched == set(WEEKS[1:] if rule.metric in DRIFT else WEEKS)


def test_a_month_of_wrong_scores_raises_the_alerts_once_two_of_three_windows_are_wrong(
    drifted: Path, load_env: LoadEnv
) -> None:
    drift = {(SCORES["name"], "score", end) for end in WEEKS[2:]}
    performance = {("the model has worsened", "", end) for end in WEEKS[2:]}
    assert raised(load_env("prod", drifted, "rules")) == drift | performance


def test_a_month_of_other_items_raises_the_alert_for_what_has_changed(
    scored: Path, copy: LoadEnv, later: datetime
) -> None:
    prod = copy(scored)
    less = pl.when(pl.col("available_at") > WEEKS[0]).then(pl.col("amount") / 4).otherwise("amount")
    items = read(prod, "silver.items").with_columns(less.alias("amount"))
    prod.catalog.replace("silver.items", items.to_arrow(), Window("available_at"))
    monitor(prod, later)
    assert raised(prod) == {(ITEMS["name"], "amount", end) for end in WEEKS[2:]}


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


def test_an_entity_that_batch_and_a_stream_have_scored_counts_once(
    scored: Path, ordinary: Path, copy: LoadEnv, load_env: LoadEnv, later: datetime
) -> None:
    """All figures of everything are as without the stream, and each way has its own, of its own rows."""
    prod, table = copy(scored), "predictions.tiny"
    batch = read(prod, table)
    streamed = batch.filter(pl.col("prediction_time") > WEEKS[2]).with_columns(inference=pl.lit("streaming"))
    prod.catalog.append(table, streamed.with_columns(pl.col("score") / 2).to_arrow())
    monitor(prod, later)
    measured = read(prod, METRICS).filter(pl.col("model_version").is_not_null())
    told = pl.col("slice").str.starts_with("inference=")
    order = ["window_end", "metric", "column", "slice"]
    alone = read(load_env("prod", ordinary, "rules"), METRICS).filter(pl.col("model_version").is_not_null())
    assert_frame_equal(measured.filter(~told).sort(order), alone.sort(order), rel_tol=1e-12)
    ways = measured.filter(told)
    assert set(ways["window_end"]) == {WEEKS[3]}, "before, there was nothing to tell apart"
    found = {(m, c, s): v for m, c, s, v in ways.select("metric", "column", "slice", "value").iter_rows()}
    everything = {
        (m, c): v
        for m, c, s, v in measured.filter(pl.col("window_end") == WEEKS[3], pl.col("slice") == "all")
        .select("metric", "column", "slice", "value")
        .iter_rows()
    }
    for metric, column in (("rows", ""), ("roc_auc", ""), ("psi", "amount"), ("ks", "score"), ("label_coverage", "")):
        assert found[metric, column, "inference=batch"] == everything[metric, column]
    assert found["rows", "", "inference=streaming"] == 70
    assert found["roc_auc", "", "inference=streaming"] == everything["roc_auc", ""], "halves rank alike"
    assert found["ks", "score", "inference=streaming"] > everything["ks", "score"]


@pytest.mark.parametrize("most", [70, 40])
def test_of_too_many_predictions_a_sample_stands_for_all(
    scored: Path, ordinary: Path, duplicate: Duplicate, load_env: LoadEnv, later: datetime, tmp_path: Path, most: int
) -> None:
    """A week has 70: as many as there may be are all measured, each week by itself."""
    overlay(duplicate(scored, tmp_path / "many"), "many", {"monitoring": {"max_rows": most}})
    many, order = load_env("prod", tmp_path / "many", "rules", "many"), ["window_end", "metric", "column", "slice"]
    run = monitor(many, later)
    measured, whole = (
        read(env, METRICS).filter(pl.col("model_version").is_not_null()).sort(order)
        for env in (many, load_env("prod", ordinary, "rules"))
    )
    if most == 70:
        assert run.notes == []
        assert_frame_equal(measured, whole, rel_tol=1e-12)
        return
    assert [note.partition(" of ")[2] for note in run.notes] == [
        f"70 predictions stand for the window to {end} (monitoring.max_rows)" for end in WEEKS[1:]
    ]
    assert all(25 < int(note.partition(" ")[0]) <= 40 for note in run.notes)
    rows, drift = (pl.col("metric") == "rows") & (pl.col("slice") == "all"), pl.col("column") == "amount"
    assert_frame_equal(measured.filter(rows), whole.filter(rows))
    assert measured.filter(drift)["value"].to_list() != whole.filter(drift)["value"].to_list()
    cells = measured.filter(pl.col("metric") == "confusion").group_by("window_end").agg(pl.col("value").sum())
    assert cells["value"].is_between(50, 72).all(), "weighted as well"


def test_one_odd_week_raises_no_alert(scored: Path, copy: LoadEnv, later: datetime) -> None:
    prod = copy(scored)
    change_scores(prod, WEEKS[1], WEEKS[2])
    monitor(prod, later)
    odd = read(prod, METRICS).filter(pl.col("metric") == "ks", pl.col("column") == "score", pl.col("value") > 0.35)
    assert odd["window_end"].to_list() == [WEEKS[2]]
    assert raised(prod) == set()


def test_a_first_prediction_at_the_very_end_of_a_window_is_measured(
    scored: Path, copy: LoadEnv, later: datetime
) -> None:
    prod = copy(scored)
    table = f"predictions.{Registry(prod).settings.model}"
    kept = read(prod, table).filter(pl.col("prediction_time") >= WEEKS[2])
    prod.catalog.replace(table, kept.to_arrow(), Window("available_at"))
    monitor(prod, later)
    volumes = read(prod, METRICS).filter(pl.col("metric") == "rows")
    assert volumes["window_end"].min() == kept["prediction_time"].min() == WEEKS[2]


def test_what_landed_is_counted_as_it_was_known_at_the_end_of_each_window(ordinary: Path, load_env: LoadEnv) -> None:
    measured = read(load_env("prod", ordinary, "rules"), METRICS).filter(pl.col("column") == "silver.items")
    rows, newest = (
        measured.filter(pl.col("metric") == name)["value"].to_list() for name in ("rows", "freshness_seconds")
    )
    assert rows == [70] * len(WEEKS)
    assert newest == [0] * len(WEEKS), "an item is published at midnight"


def test_nobody_is_told_of_an_old_alert_again(
    scored: Path, copy: LoadEnv, later: datetime, capsys: pytest.CaptureFixture[str]
) -> None:
    prod = copy(scored)
    change_scores(prod, WEEKS[0], later)
    monitor(prod, later - 7 * DAY)
    assert "2 new alerts" in capsys.readouterr().err
    monitor(prod, later)
    assert "2 new alerts" in capsys.readouterr().err
    monitor(prod, later + DAY)
    assert capsys.readouterr().err == ""


def test_performance_is_measured_once_the_labels_are_in(ordinary: Path, load_env: LoadEnv, later: datetime) -> None:
    prod = load_env("prod", ordinary, "rules")
    rows = read(prod, METRICS)
    coverage = rows.filter(pl.col("metric") == "label_coverage", pl.col("slice") == "all")
    assert coverage["value"].is_between(0.7, 0.99).all(), "of the last day's labels some came too late"
    delay = prod.config.monitoring.label_delay
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
    prod.catalog.append(ALERTS, again.to_arrow())
    assert due(prod, later + 19 * DAY) == ""
    assert due(prod, later + 20 * DAY).startswith("alert the model has worsened")


def test_the_cooldown_holds_back_an_alert_soon_after_a_training(drifted: Path, copy: LoadEnv, later: datetime) -> None:
    prod = copy(drifted, mode="triggered", cooldown="60d")
    assert retrain(prod, later) == []


def test_an_alert_that_only_notifies_trains_nothing(drifted: Path, copy: LoadEnv, later: datetime) -> None:
    prod = copy(drifted, mode="triggered", cooldown="20d")
    assert due(prod, later)
    prod.catalog.delete(ALERTS, Among("action", ["retrain"]))
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
