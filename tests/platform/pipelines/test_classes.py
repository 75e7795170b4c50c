"""Labels that are classes, through the whole life cycle, with the model that a render with classes begins with."""

import shutil
from datetime import datetime, timedelta
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mlplatform.contract import Labels, Model
from mlplatform.environment import Environment
from mlplatform.features.frames import entities
from mlplatform.monitoring.dashboard import collect, publish
from mlplatform.pipelines.deploy import deploy
from mlplatform.pipelines.infer import infer
from mlplatform.pipelines.monitor import monitor
from mlplatform.pipelines.train import train
from mlplatform.registry.store import Registry
from steps import Edited, advance, overlay, read
from tiny.project import PROJECT

TEMPLATE = Path(__file__).parents[3] / "{{cookiecutter.project_slug}}" / "options"
PACKAGE = Path("src", "{{cookiecutter.package_name}}")
CONF = Path(__file__).parents[1] / "conf"
LABELS = Labels("multiclass", classes=("low", "middle", "high"))
WEEKS = timedelta(days=21)


def model() -> Model:
    """The model of `problem_type=multiclass`, as a module of the tiny project."""
    spec = spec_from_file_location("tiny.classes", TEMPLATE / "problem_type=multiclass" / PACKAGE / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Model = module.Estimate(LABELS.classes)
    return found


@pytest.fixture(scope="module")
def prod(tmp_path_factory: pytest.TempPathFactory, now: datetime) -> Environment:
    """Prod after training and deployment at `now` and three weeks of scoring and monitoring. Not to be changed."""
    folder = tmp_path_factory.mktemp("classes")
    shutil.copytree(CONF, folder / "conf")
    sql = (TEMPLATE / "sample=none,problem_type=multiclass" / PACKAGE / "sql" / "labels.sql").read_text()
    given = {name: getattr(PROJECT, name) for name in PROJECT.__dataclass_fields__}
    project = Edited(**given | {"labels": LABELS, "model": model(), "edits": {"labels.sql": sql}})
    drift = {"name": "predictions have drifted", "metric": "ks", "columns": ["score__*"], "above": 0.001}
    watched = overlay(folder, "watched", {"monitoring": {"rules": [drift]}})
    env = Environment.load("prod", project, folder, ("test", watched))
    advance(env, now)
    train(env, now)
    deploy(env, now)
    advance(env, now + WEEKS)
    infer(env, now + WEEKS)
    monitor(env, now + WEEKS)
    return env


def measured(env: Environment, metric: str) -> pl.DataFrame:
    return read(env, "monitoring.metrics").filter(pl.col("metric") == metric)


def test_a_model_of_classes_passes_the_gates(prod: Environment, now: datetime) -> None:
    registry = Registry(prod)
    assert registry.ledger.champion(now) == 1, [t.reason for t in registry.ledger.all()]
    assert "confusion.png" in registry.artifact_names(1)


def test_a_prediction_has_a_probability_per_class_and_the_likeliest_class(prod: Environment) -> None:
    rows = read(prod, "predictions.tiny")
    scores = rows.select(LABELS.score_columns).to_numpy()
    assert scores.shape == (rows.height, 3)
    assert scores.sum(axis=1) == pytest.approx(1)
    assert rows["prediction"].to_list() == [LABELS.classes[best] for best in scores.argmax(axis=1)]
    assert rows["prediction"].n_unique() == 3


def test_the_drift_of_each_probability_is_measured_and_rules_can_name_them_all(prod: Environment) -> None:
    assert set(LABELS.score_columns) <= set(measured(prod, "ks")["column"])
    assert set(read(prod, "ops.alerts")["column"]) == set(LABELS.score_columns)


def test_classes_are_judged_per_window_and_slice_and_beat_the_baseline(prod: Environment) -> None:
    ours, theirs = measured(prod, "log_loss"), measured(prod, "baseline_log_loss")
    assert ours.filter(slice="all")["value"].mean() < theirs.filter(slice="all")["value"].mean()  # type: ignore[operator]
    assert set(measured(prod, "rows")["slice"]) == {"all", "kind=a", "kind=b", "kind=c"}


def test_the_confusion_matrix_counts_each_labelled_prediction_once(prod: Environment) -> None:
    settings, model = prod.config.monitoring, prod.project.model
    data = collect(prod.catalog, settings, title="", environment="prod", metric=model.primary, classes=LABELS.classes)
    assert data.confusion is not None
    assert data.confusion["classes"] == ["low", "middle", "high"]
    counts = np.array([row for _, row in data.confusion["rows"]])
    window = read(prod, "predictions.tiny").filter(
        pl.col("prediction_time") > data.confusion["end"] - settings.window,
        pl.col("prediction_time") <= data.confusion["end"],
    )
    truth = pl.DataFrame(prod.engine.query(prod.project.sql("labels.sql"))).join(window, on="item_id")
    expected = truth.group_by("label", "prediction").len()
    assert counts.sum() == truth.height
    for label, prediction, count in expected.iter_rows():
        assert counts[LABELS.classes.index(label), LABELS.classes.index(prediction)] == count
    assert np.trace(counts) > counts.sum() / 2


def test_the_page_shows_the_confusion_matrix(prod: Environment) -> None:
    page = publish(prod).read_text()
    assert 'id="confusion"' in page
    assert "as middle" in page


def test_a_class_that_training_never_saw_has_no_probability(prod: Environment, now: datetime) -> None:
    model, rows = prod.project.model, entities(prod, now, now - WEEKS, now).arrow().to_pandas()
    labels = np.where(rows["amount"] > 50, "low", "high")
    fitted = model.build({"max_iter": 5}).fit(model.inputs(rows), labels)
    scores = model.predict(fitted, model.inputs(rows))
    assert (scores[:, 1] == 0).all()
    assert scores.sum(axis=1) == pytest.approx(1)
    assert np.isfinite(model.primary.measure(np.array(["middle"] * len(rows), dtype=object), scores))
