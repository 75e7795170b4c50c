"""Any estimator with scikit-learn's interface is trained, recorded whole, loaded and asked."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from conftest import Duplicate
from mlplatform.contract import Baseline, Labels, Metric, Model, Project
from mlplatform.environment import Environment
from mlplatform.features.frames import entities
from mlplatform.pipelines.deploy import deploy
from mlplatform.pipelines.forget import look
from mlplatform.pipelines.infer import infer
from mlplatform.pipelines.monitor import monitor
from mlplatform.pipelines.train import train
from mlplatform.preparation.forgotten import subject_of
from mlplatform.registry import approval
from mlplatform.registry.scoring import load
from mlplatform.registry.store import Registry
from mlplatform.registry.transitions import Decision
from mlplatform.training.tuning import ModelError
from steps import Edited, advance, overlay, read
from tiny.features import NUMERIC
from tiny.model import Estimate
from tiny.project import PROJECT

DAY = timedelta(days=1)


class Plain(Estimate):
    """Numbers only, so that any estimator takes them."""

    defaults: Mapping[str, Any] = {}
    trusted_types = ()

    def inputs(self, frame: pd.DataFrame) -> pd.DataFrame:
        kinds = {f"is_{kind}": (frame["kind"] == kind).astype("float64") for kind in "abc"}
        return frame[["amount"]].astype("float64").assign(**kinds)

    def suggest(self, trial: Any) -> dict[str, Any]:
        return {}


class Logistic(Plain):
    def build(self, parameters: Mapping[str, Any]) -> Any:
        return LogisticRegression(**parameters)


class Scaled(Plain):
    def build(self, parameters: Mapping[str, Any]) -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(**parameters))


class Boosted(Plain):
    def build(self, parameters: Mapping[str, Any]) -> Any:
        from lightgbm import LGBMClassifier

        return LGBMClassifier(n_estimators=15, num_leaves=7, verbose=-1, n_jobs=1, **parameters)


class MeanByKind(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A regressor of the owner's own: the mean label of each kind, and a line through the amount."""

    def __init__(self, slope: float = 1.0) -> None:
        self.slope = slope

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> None:  # noqa: N803
        """Returns nothing, as people's estimators do."""
        rest = y - self.slope * X["amount"].to_numpy()
        self.means_ = {kind: float(rest[X[f"is_{kind}"] == 1].mean()) for kind in "abc"}

    def predict(self, X: pd.DataFrame) -> np.ndarray:  # noqa: N803
        means = sum(X[f"is_{kind}"] * mean for kind, mean in self.means_.items())
        return np.asarray(means + self.slope * X["amount"])


class Own(Plain):
    primary = Metric("rmse", lambda labels, scores: float(root_mean_squared_error(labels, scores)), False)

    def build(self, parameters: Mapping[str, Any]) -> Any:
        return MeanByKind(**parameters)

    def predict(self, fitted: Any, inputs: pd.DataFrame) -> np.ndarray:
        return np.asarray(fitted.predict(inputs), dtype="float64")

    def metrics(self, labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
        return {"rmse": self.primary.measure(labels, scores)}

    def plots(self, labels: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
        return {}


def of(model: Model, **changes: Any) -> Project:
    return replace(PROJECT, model=model, **changes)


def outcome(model: Model) -> Project:
    """The tiny project with a number as its label."""
    sql = "SELECT item_id, outcome AS label, event_timestamp, available_at FROM silver.outcomes"
    return Edited(**{**vars(PROJECT), "edits": {"labels.sql": sql}, "labels": Labels("number"), "model": model})


@pytest.fixture
def trained_with(trained: Path, duplicate: Duplicate, tmp_path: Path, now: datetime) -> Any:
    """trained_with(project): prod after a training with it, and the registry with the version, which is number 2."""

    def made(project: Project, **settings: Any) -> tuple[Environment, Registry]:
        folder = duplicate(trained, tmp_path / "project")
        lenient = {"registry": {"compliance": {"slice_limits": []}}, **settings}
        prod = Environment.load("prod", project, folder, ("test", overlay(folder, "lenient", lenient)))
        registry = Registry(prod)
        (first,) = registry.ledger.pending("Staging", now)
        approval.reject(registry, first, Decision(now, "test", "only the other one counts"))
        train(prod, now)
        return prod, registry

    return made


def use(prod: Environment, as_of: datetime) -> None:
    """Score what came after the promotion."""
    advance(prod, as_of)
    infer(prod, as_of)


def requirements(registry: Registry, number: int = 2) -> str:
    return (registry.files(number, "model") / "requirements.txt").read_text(encoding="utf-8")


ESTIMATORS = [
    pytest.param(of(Logistic()), "scikit-learn", id="logistic regression"),
    pytest.param(of(Scaled()), "scikit-learn", id="pipeline"),
    pytest.param(
        of(Boosted()),
        "lightgbm",
        id="LightGBM",
        marks=pytest.mark.skipif(find_spec("lightgbm") is None, reason="lightgbm is not installed here"),
    ),
    pytest.param(outcome(Own()), "scikit-learn", id="a regressor of the owner's own"),
]


@pytest.mark.parametrize(("project", "requirement"), ESTIMATORS)
def test_an_estimator_goes_all_the_way(trained_with: Any, now: datetime, project: Project, requirement: str) -> None:
    prod, registry = trained_with(project)
    deploy(prod, now)
    assert registry.ledger.champion() == 2, registry.ledger.all()
    use(prod, now + DAY)
    scored = prod.catalog.read("predictions.tiny")
    assert set(scored["model_version"].to_pylist()) == {2}
    assert f"{requirement}==" in requirements(registry)
    assert "amount" in registry.tags(2).summary, "it is what tells most here, and permutation finds it"


def test_what_is_loaded_scores_as_what_was_fitted(trained_with: Any, now: datetime) -> None:
    _, registry = trained_with(of(Scaled()))
    scorer = load(Scaled(), registry.files(2, "model"))
    rows = pd.DataFrame({"amount": [10.0, 90.0], "kind": ["a", "b"]})
    low, high = scorer.scores(rows)
    assert 0 <= low < 0.5 < high <= 1


class Coded(Plain):
    """A category is a whole number."""

    def inputs(self, frame: pd.DataFrame) -> pd.DataFrame:
        return frame[["amount"]].astype("float64").assign(kind=frame["code"].astype("str").fillna("missing"))

    def build(self, parameters: Mapping[str, Any]) -> Any:
        encode = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["kind"]), remainder=StandardScaler())
        return make_pipeline(encode, LogisticRegression())


# From when on the codes of small amounts are missing. Training ends on 13 February, the rows held out on 14 March.
@pytest.mark.parametrize("since", ["2025-01-20", "2025-03-01", "2025-03-14"], ids=["trained", "held out", "scored"])
def test_a_code_of_whole_numbers_reads_as_in_training_whatever_its_company(
    trained_with: Any, now: datetime, since: str
) -> None:
    code = f"CASE WHEN amount > 25 OR available_at < TIMESTAMP '{since}' THEN ascii(kind) END"
    sql = f"SELECT *, CAST({code} AS INT) AS code FROM ({PROJECT.sql('entities.sql')})"
    project = Edited(**{**vars(of(Coded(), views=())), "edits": {"entities.sql": sql}})
    prod, registry = trained_with(project)
    assert registry.tags(2).metrics["roc_auc"] > 0.9
    scorer = load(Coded(), registry.files(2, "model"))
    rows = entities(prod, now, now - 2 * DAY, now).arrow()
    assert 0 < rows["code"].null_count < 15
    together = scorer.inputs(rows.to_pandas())
    codes = scorer.fitted[0].named_transformers_["onehotencoder"].categories_[0]
    assert set(together["kind"]) == {*codes, "missing"}
    alone = pd.concat([scorer.inputs(rows.slice(number, 1).to_pandas()) for number in range(rows.num_rows)])
    pd.testing.assert_frame_equal(together, alone.reset_index(drop=True))
    if since == "2025-01-20":  # an old item, which has a code: alone it must be read as beside those without
        oldest = read(prod, "silver.items").sort("available_at")["item_id"][0]
        found = {version.number: version.files for version in look(prod, subject_of([f"item_id={oldest}"])).versions}
        assert "reference.parquet" in found[2]
    if since == "2025-03-14":
        deploy(prod, now)
        use(prod, now + 9 * DAY)
        monitor(prod, now + 9 * DAY)
        drift = read(prod, "monitoring.metrics").filter(metric="psi", column="kind")
        assert drift["value"].max() < 4  # type: ignore[operator]  # a quarter is missing now; the rest has its names


def test_types_that_the_model_does_not_trust_are_named(trained_with: Any) -> None:
    class Wary(Estimate):
        trusted_types = ("sklearn.model_selection._split.StratifiedKFold",)

    with pytest.raises(ModelError, match=r"Model.trusted_types lacks .*TreePredictor"):
        trained_with(of(Wary()))


def test_mlflow_shows_the_parameters_of_every_step_and_each_trial(trained_with: Any) -> None:
    _, registry = trained_with(of(Estimate()), training={"tuning": {"enabled": True, "trials": 2}})
    version = registry.version(2)
    run = registry.client.get_run(version.run_id)
    assert run.data.params["classify__max_bins"] == "255"
    assert "encode" not in run.data.params, "its parts say it"
    assert run.data.params["max_iter"] == run.data.params["classify__max_iter"]
    assert run.data.tags["mlflow.note.content"] == registry.tags(2).summary
    below = f"tags.`mlflow.parentRunId` = '{version.run_id}'"
    trials = registry.client.search_runs([registry.experiment()], below)
    assert {trial.info.run_name for trial in trials} == {"trial 0", "trial 1"}
    for trial in trials:
        assert set(trial.data.params) == set(Estimate.defaults)
        assert 0 < trial.data.metrics["folds_average_precision"] <= 1


def wins(labels: np.ndarray, decisions: np.ndarray) -> float:
    """A hit gains four, a false alarm loses one."""
    return float(4 * np.sum(labels * decisions) - np.sum((1 - labels) * decisions))


class Deciding(Logistic):
    decision = Metric("gain", wins)


def test_a_threshold_is_kept_with_the_version_and_written_beside_the_score(trained_with: Any, now: datetime) -> None:
    prod, registry = trained_with(of(Deciding()))
    tags = registry.tags(2)
    assert tags.threshold is not None
    assert 0 < tags.threshold < 0.5, "a hit is worth more than a false alarm costs"
    assert tags.metrics["gain"] > 0
    card = registry.files(2, "model_card.md").read_text(encoding="utf-8")
    assert "A decision is 1 where the score is at least" in card
    deploy(prod, now)
    use(prod, now + DAY)
    scored = prod.catalog.read("predictions.tiny").to_pandas()
    assert set(scored["threshold"]) == {tags.threshold}
    assert (scored["prediction"] == (scored["score"] >= tags.threshold)).all()
    assert scored["prediction"].nunique() == 2


def test_a_baseline_without_groups_and_no_feature_views_will_do(trained_with: Any, now: datetime) -> None:
    prod, registry = trained_with(of(Logistic(), views=(), baseline=Baseline()))
    deploy(prod, now)
    assert registry.ledger.champion() == 2, registry.ledger.all()
    use(prod, now + DAY)
    assert prod.catalog.count("predictions.tiny") > 0


def test_a_feature_view_without_keys_holds_for_every_entity(trained_with: Any, now: datetime) -> None:
    from mlplatform.contract import FeatureView
    from mlplatform.features import refresh

    day = PROJECT.views[0].ttl
    everywhere = FeatureView("world", (), day, day)
    sql = """
        SELECT date_trunc('day', event_timestamp) AS event_timestamp, avg(outcome) AS mean,
            CAST(date_trunc('day', event_timestamp) + INTERVAL 259200 SECONDS AS TIMESTAMP) AS available_at
        FROM silver.outcomes GROUP BY date_trunc('day', event_timestamp)"""
    given = {**vars(PROJECT), "views": (*PROJECT.views, everywhere), "edits": {"features/world.sql": sql}}
    prod, _ = trained_with(PROJECT)
    prod = Environment.load("prod", Edited(**given), prod.folder, ("test",))
    assert refresh(prod, everywhere, now, None) > 50
    rows = entities(prod, now, now - day, now).arrow().to_pandas()
    assert rows["world__mean"].notna().all()
    assert rows.groupby(rows["prediction_time"].dt.date)["world__mean"].nunique().max() == 1
    assert set(NUMERIC) <= set(rows.columns)
