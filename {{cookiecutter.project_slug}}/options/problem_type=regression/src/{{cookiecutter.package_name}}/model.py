"""The model: how it is built, tuned, asked and judged. Which columns it sees is said in features.py.

To change the estimator, change `build`, `suggest` (its search space) and `defaults`; to judge it by something else,
`primary` and `metrics`. What it looks at is found by shuffling columns; for trees you may override `explain` with
`shap.TreeExplainer(fitted[-1]).shap_values(fitted[:-1].transform(inputs))`, from the dependency group `explain`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import (
    PredictionErrorDisplay,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import TargetEncoder

from mlplatform.contract import Metric, Model

from .features import CATEGORICAL, NUMERIC

if TYPE_CHECKING:
    from optuna import Trial


def _rmse(labels: np.ndarray, scores: np.ndarray) -> float:
    """The primary metric, in the label's unit, of scores against labels, both of shape (n,); NaN without rows."""
    return float(root_mean_squared_error(labels, scores)) if len(labels) else np.nan


class Estimate(Model):
    """Gradient-boosted trees on what was known at the prediction time."""

    primary = Metric("rmse", _rmse, greater_is_better=False)
    defaults: Mapping[str, Any] = {
        "learning_rate": 0.1,
        "max_iter": 60,
        "max_leaf_nodes": 15,
        "l2_regularization": 1.0,
    }

    def inputs(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The model's input from joined rows: numbers as float64, categories as text without gaps."""
        numbers = frame[list(NUMERIC)].astype("float64")
        categories = frame[list(CATEGORICAL)].astype("str").fillna("missing")
        return pd.concat([numbers, categories], axis=1)

    def build(self, parameters: Mapping[str, Any]) -> Pipeline:
        """A pipeline that is not fitted yet; its input has the columns NUMERIC and CATEGORICAL."""
        folds = KFold(shuffle=True, random_state=0)
        encode = ColumnTransformer(
            [("categories", TargetEncoder(target_type="continuous", cv=folds), list(CATEGORICAL))],
            remainder="passthrough",
            verbose_feature_names_out=False,
        ).set_output(transform="pandas")
        regressor = HistGradientBoostingRegressor(random_state=0, early_stopping=False, **parameters)
        return Pipeline([("encode", encode), ("regress", regressor)])

    def suggest(self, trial: "Trial") -> dict[str, Any]:
        """One point of the search space."""
        return {
            "learning_rate": trial.suggest_float("learning_rate", 0.05, 0.3, log=True),
            "max_iter": trial.suggest_int("max_iter", 40, 80, step=20),
            "max_leaf_nodes": trial.suggest_int("max_leaf_nodes", 7, 31, step=8),
            "l2_regularization": trial.suggest_float("l2_regularization", 0.01, 100.0, log=True),
        }

    def predict(self, fitted: Any, inputs: pd.DataFrame) -> np.ndarray:
        """The estimated label, shape (n,)."""
        return np.asarray(fitted.predict(inputs), dtype="float64")

    def metrics(self, labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
        """All metrics by name, errors in the label's unit; empty with fewer than two rows."""
        if len(labels) < 2:
            return {}
        return {
            self.primary.name: self.primary.measure(labels, scores),
            "mae": float(mean_absolute_error(labels, scores)),
            "r2": float(r2_score(labels, scores)),
        }

    def plots(self, labels: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
        """Matplotlib figures by file name."""
        options = {"y_true": labels, "y_pred": scores, "subsample": 2000, "random_state": 0}
        actual = PredictionErrorDisplay.from_predictions(kind="actual_vs_predicted", **options)
        residual = PredictionErrorDisplay.from_predictions(kind="residual_vs_predicted", **options)
        return {"actual_vs_predicted.png": actual.figure_, "residuals.png": residual.figure_}
