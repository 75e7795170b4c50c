"""A random forest on the measurements."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import average_precision_score, roc_auc_score

from mlplatform.contract import Metric, Model

from .tables import MEASURED


def _average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    return float(average_precision_score(labels, scores)) if labels.any() and not labels.all() else np.nan


class Finding(Model):
    """The probability that a sample is benign."""

    primary = Metric("average_precision", _average_precision)
    defaults: Mapping[str, Any] = {"n_estimators": 60}

    def inputs(self, frame: pd.DataFrame) -> pd.DataFrame:
        return frame[list(MEASURED)].astype("float64")

    def build(self, parameters: Mapping[str, Any]) -> RandomForestClassifier:
        return RandomForestClassifier(random_state=0, **parameters)

    def predict(self, fitted: Any, inputs: pd.DataFrame) -> np.ndarray:
        return np.asarray(fitted.predict_proba(inputs))[:, 1]

    def metrics(self, labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
        known = labels.any() and not labels.all()
        return {
            "average_precision": _average_precision(labels, scores),
            "roc_auc": float(roc_auc_score(labels, scores)) if known else np.nan,
        }
