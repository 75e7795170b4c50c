"""The model: a few trees, which are quick to fit, to explain and to load."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.calibration import CalibrationDisplay
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import (
    PrecisionRecallDisplay,
    average_precision_score,
    brier_score_loss,
    log_loss,
    roc_auc_score,
)
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import TargetEncoder

from mlplatform.contract import Metric, Model

from .features import CATEGORICAL, NUMERIC


def _average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """The primary metric of scores in [0, 1] against labels 0.0 and 1.0, all of shape (n,); NaN with one class."""
    return float(average_precision_score(labels, scores)) if labels.any() and not labels.all() else np.nan


class Estimate(Model):
    """Gradient-boosted trees on what was known at the prediction time."""

    primary = Metric("average_precision", _average_precision, greater_is_better=True)
    defaults: Mapping[str, Any] = {
        "learning_rate": 0.1,
        "max_iter": 20,
        "max_leaf_nodes": 15,
        "l2_regularization": 1.0,
    }
    trusted_types: tuple[str, ...] = (
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.model_selection._split.StratifiedKFold",
    )

    def inputs(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The model's input from a joined frame: numbers as float64, categories as text without gaps."""
        numbers = frame[list(NUMERIC)].astype("float64")
        categories = frame[list(CATEGORICAL)].astype("str").fillna("missing")
        return pd.concat([numbers, categories], axis=1)

    def build(self, parameters: Mapping[str, Any]) -> Pipeline:
        """An unfitted pipeline; its input is a frame with the columns NUMERIC and CATEGORICAL."""
        folds = StratifiedKFold(shuffle=True, random_state=0)
        encode = ColumnTransformer(
            [("categories", TargetEncoder(target_type="binary", cv=folds), list(CATEGORICAL))],
            remainder="passthrough",
            verbose_feature_names_out=False,
        ).set_output(transform="pandas")
        classifier = HistGradientBoostingClassifier(random_state=0, early_stopping=False, **parameters)
        return Pipeline([("encode", encode), ("classify", classifier)])

    def suggest(self, trial: Any) -> dict[str, Any]:
        """One point of the search space; `trial` is an Optuna trial."""
        return {
            "learning_rate": trial.suggest_float("learning_rate", 0.05, 0.3, log=True),
            "max_iter": trial.suggest_int("max_iter", 10, 30, step=10),
            "max_leaf_nodes": trial.suggest_int("max_leaf_nodes", 7, 31, step=8),
            "l2_regularization": trial.suggest_float("l2_regularization", 0.01, 100.0, log=True),
        }

    def predict(self, fitted: Any, inputs: pd.DataFrame) -> np.ndarray:
        """The probability of label 1, shape (n,)."""
        return np.asarray(fitted.predict_proba(inputs))[:, 1]

    def metrics(self, labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
        """All metrics by name; empty with one class only."""
        if not labels.any() or labels.all():
            return {}
        return {
            self.primary.name: self.primary.measure(labels, scores),
            "roc_auc": float(roc_auc_score(labels, scores)),
            "brier": float(brier_score_loss(labels, scores)),
            "log_loss": float(log_loss(labels, np.clip(scores, 1e-6, 1 - 1e-6))),
        }

    def plots(self, labels: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
        """Matplotlib figures by file name."""
        curve = PrecisionRecallDisplay.from_predictions(labels, scores, plot_chance_level=True)
        calibration = CalibrationDisplay.from_predictions(labels, scores, n_bins=15, strategy="quantile")
        return {"precision_recall.png": curve.figure_, "calibration.png": calibration.figure_}
