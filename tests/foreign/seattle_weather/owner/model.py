"""A ridge regression on the past days and the season, as an estimator of our own."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

from mlplatform.contract import Metric, Model

from .features import COLUMNS


class Ridge(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Least squares with a penalty on the weights (Hoerl and Kennard, 1970); a missing value counts as the mean."""

    def __init__(self, penalty: float = 1.0) -> None:
        self.penalty = penalty

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> Self:  # noqa: N803 (scikit-learn's names)
        self.center_ = X.mean().to_numpy()
        self.scale_ = X.std().replace(0, 1).to_numpy()
        self.mean_ = float(np.mean(y))
        given = self._standardized(X)
        self.weights_ = np.linalg.solve(
            given.T @ given + self.penalty * np.eye(given.shape[1]), given.T @ (np.asarray(y, float) - self.mean_)
        )
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:  # noqa: N803
        return np.asarray(self.mean_ + self._standardized(X) @ self.weights_)

    def _standardized(self, rows: pd.DataFrame) -> np.ndarray:
        return np.asarray(np.nan_to_num((rows.to_numpy(dtype=float) - self.center_) / self.scale_))


def _rmse(labels: np.ndarray, scores: np.ndarray) -> float:
    return float(root_mean_squared_error(labels, scores)) if len(labels) else np.nan


class Forecast(Model):
    """Degrees Celsius, from what is known at six in the morning."""

    primary = Metric("rmse", _rmse, greater_is_better=False)
    defaults: Mapping[str, Any] = {"penalty": 1.0}
    trusted_types = (f"{Ridge.__module__}.Ridge",)

    def inputs(self, frame: pd.DataFrame) -> pd.DataFrame:
        return frame[list(COLUMNS)].astype("float64")

    def build(self, parameters: Mapping[str, Any]) -> Ridge:
        return Ridge(**parameters)

    def suggest(self, trial: Any) -> dict[str, Any]:
        return {"penalty": trial.suggest_float("penalty", 0.01, 100.0, log=True)}

    def predict(self, fitted: Any, inputs: pd.DataFrame) -> np.ndarray:
        return np.asarray(fitted.predict(inputs))

    def metrics(self, labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
        return {
            "rmse": _rmse(labels, scores),
            "mae": float(mean_absolute_error(labels, scores)) if len(labels) else np.nan,
        }
