"""The quick scorer of boosted trees behind target encoders gives the pipeline's scores, to the last bit."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import TargetEncoder

from mlplatform.registry.scoring import Scorer
from mlplatform.serving.quick import differs, row_scorer
from tiny.model import Estimate

pytestmark = pytest.mark.serving
KINDS: dict[str, tuple[Any, str]] = {
    "binary": (HistGradientBoostingClassifier(max_iter=8), "binary"),
    "multiclass": (HistGradientBoostingClassifier(max_iter=8), "multiclass"),
    "number": (HistGradientBoostingRegressor(max_iter=8), "continuous"),
    "a link": (HistGradientBoostingRegressor(max_iter=8, loss="poisson"), "continuous"),
    "splits of categories": (HistGradientBoostingClassifier(max_iter=8, categorical_features=[1]), "binary"),
}


class Plain(Estimate):
    """Takes what it is given."""

    def inputs(self, frame: pd.DataFrame) -> pd.DataFrame:
        return frame

    def predict(self, fitted: Any, inputs: pd.DataFrame) -> np.ndarray:
        if not hasattr(fitted[-1], "classes_"):
            return np.asarray(fitted.predict(inputs))
        chances = np.asarray(fitted.predict_proba(inputs))
        if chances.shape[1] == 2:
            return chances[:, 1]
        return np.column_stack([chances[:, 2], chances[:, 0], np.zeros(len(inputs)), chances[:, 1]])


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_gets_the_scores_of_the_pipeline(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    estimator, target = KINDS[kind]
    rng, n = np.random.default_rng(0), 400
    frame = pd.DataFrame(
        {
            "size": rng.integers(0, 9, n).astype(float),  # many rows stand exactly on a split
            "gaps": np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
            "kind": rng.choice(["a", "b", "c"], n),
        }
    )
    value = frame["size"] + frame["gaps"].fillna(3) + (frame["kind"] == "a")
    labels = {"binary": (value > 4) * 1, "multiclass": np.digitize(value, [3, 6]), "continuous": value.abs()}[target]
    encode = ColumnTransformer([("kinds", TargetEncoder(target_type=target), ["kind"])], remainder="passthrough")
    scorer = Scorer(Plain(), Pipeline([("encode", encode), ("trees", estimator)]).fit(frame, labels), None)
    # In an order of their own, one of them never seen.
    quick = row_scorer(scorer, ("2", "0", "new", "1") if target == "multiclass" else ())
    assert quick is not None
    rows = pa.Table.from_pandas(frame).to_pylist()
    if kind == "splits of categories":
        assert differs(scorer, quick, frame, rows) == ""
        return
    expected = scorer.scores(frame)
    monkeypatch.setattr(type(estimator), "_raw_predict", None)  # they are not asked, which takes twenty times as long
    assert np.array_equal([quick(row) for row in rows], expected)
