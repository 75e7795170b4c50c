"""The contract: what an owner may leave out has a default that works, and what cannot be meant is refused."""

from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from mlplatform.contract import Kind, Labels, Metric, Model
from tiny.project import PROJECT

ROWS = 200


class Line(Model):
    """The least that a model has to say; the smaller its primary metric, the better."""

    primary = Metric("error", lambda labels, scores: float(np.abs(labels - scores).mean()), greater_is_better=False)

    def inputs(self, frame: pd.DataFrame) -> pd.DataFrame:
        return frame[["strong", "weak", "idle"]]

    def build(self, parameters: Any) -> LinearRegression:
        return LinearRegression()

    def predict(self, fitted: Any, inputs: pd.DataFrame) -> np.ndarray:
        return np.asarray(fitted.predict(inputs))

    def metrics(self, labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
        return {"error": self.primary.measure(labels, scores)}


@pytest.mark.parametrize(("kind", "classes"), [("multiclass", ()), ("binary", ("a", "b")), ("number", ("a",))])
def test_classes_are_named_for_several_classes_and_for_nothing_else(kind: Kind, classes: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="classes are named for multiclass labels"):
        Labels(kind, classes)


def test_there_is_one_score_or_one_for_each_class() -> None:
    assert Labels("binary").score_columns == Labels("number").score_columns == ("score",)
    assert Labels("multiclass", ("red", "green")).score_columns == ("score__red", "score__green")


def test_a_project_cannot_be_changed_and_can_be_made_anew() -> None:
    with pytest.raises(FrozenInstanceError):
        PROJECT.slices = ()  # type: ignore[misc]
    assert replace(PROJECT, slices=("kind",)) == PROJECT


def test_sql_is_read_from_the_owners_package_without_the_last_semicolon() -> None:
    assert PROJECT.sql("silver/items.sql").startswith("--")
    assert PROJECT.sql("silver/items.sql").endswith("bronze.items")
    with pytest.raises(FileNotFoundError, match=r"nothing\.sql"):
        PROJECT.sql("silver/nothing.sql")


def test_a_model_may_leave_out_all_that_has_a_default() -> None:
    model = Line()
    assert (model.defaults, model.suggest(None), model.trusted_types) == ({}, {}, ())
    assert model.weights(pd.DataFrame()) is None
    assert model.plots(np.empty(0), np.empty(0)) == {}


def test_a_model_that_lacks_what_has_none_is_refused() -> None:
    class Nothing(Line):
        predict = Model.predict

    with pytest.raises(TypeError, match="predict"):
        Nothing()


def test_unless_a_model_explains_itself_its_inputs_are_ranked_by_what_shuffling_them_costs() -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({name: random.normal(size=ROWS) for name in ("idle", "weak", "strong")})
    labels = (3 * frame["strong"] + frame["weak"]).to_numpy()
    model = Line()
    fitted = model.build({}).fit(model.inputs(frame), labels)
    found = model.explain(fitted, model.inputs(frame), labels)
    assert list(found.importance.index) == ["strong", "weak", "idle"]
    assert found.importance["strong"] > 2 * found.importance["weak"] > 0
    assert found.importance["idle"] == pytest.approx(0, abs=1e-9)
    assert found.figure is None
