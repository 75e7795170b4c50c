"""A logistic regression on the pixels."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss

from mlplatform.contract import Metric, Model

from .tables import PIXELS

DIGITS = tuple(str(digit) for digit in range(10))


def _accuracy(labels: np.ndarray, scores: np.ndarray) -> float:
    return float(accuracy_score(labels, np.array(DIGITS)[scores.argmax(axis=1)])) if len(labels) else np.nan


class Reader(Model):
    """The probability of each digit."""

    primary = Metric("accuracy", _accuracy)
    defaults: Mapping[str, Any] = {"C": 0.1}

    def inputs(self, frame: pd.DataFrame) -> pd.DataFrame:
        return frame[list(PIXELS)].astype("float64")

    def build(self, parameters: Mapping[str, Any]) -> LogisticRegression:
        return LogisticRegression(max_iter=2000, **parameters)

    def predict(self, fitted: Any, inputs: pd.DataFrame) -> np.ndarray:
        return np.asarray(fitted.predict_proba(inputs))

    def metrics(self, labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
        return {
            "accuracy": _accuracy(labels, scores),
            "log_loss": float(log_loss(labels, scores, labels=list(DIGITS))) if len(labels) else np.nan,
        }
