"""The model: how it is built, tuned, asked and judged. Which columns it sees is said in features.py.

To change the estimator, change `build`, `suggest` (its search space) and `defaults`; to judge it by something else,
`primary` and `metrics`. What it looks at is found by shuffling columns; for trees you may override `explain` with
`shap.TreeExplainer(fitted[-1]).shap_values(fitted[:-1].transform(inputs))`, from the dependency group `explain`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.calibration import CalibrationDisplay
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score, f1_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import TargetEncoder

from mlplatform.contract import Metric, Model

from .features import CATEGORICAL, NUMERIC

if TYPE_CHECKING:
    from optuna import Trial


class Estimate(Model):
    """Gradient-boosted trees on what was known at the prediction time.

    `classes` are those of the labels; scores have a column for each, in the same order.
    """

    defaults: Mapping[str, Any] = {
        "learning_rate": 0.1,
        "max_iter": 60,
        "max_leaf_nodes": 15,
        "l2_regularization": 1.0,
    }

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = np.array(classes, dtype=object)

    @property
    def primary(self) -> Metric:
        return Metric("log_loss", self._log_loss, greater_is_better=False)

    def inputs(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The model's input from joined rows: numbers as float64, categories as text without gaps."""
        numbers = frame[list(NUMERIC)].astype("float64")
        categories = frame[list(CATEGORICAL)].astype("str").fillna("missing")
        return pd.concat([numbers, categories], axis=1)

    def build(self, parameters: Mapping[str, Any]) -> Pipeline:
        """A pipeline that is not fitted yet; its input has the columns NUMERIC and CATEGORICAL."""
        folds = StratifiedKFold(shuffle=True, random_state=0)
        encode = ColumnTransformer(
            [("categories", TargetEncoder(cv=folds), list(CATEGORICAL))],
            remainder="passthrough",
            verbose_feature_names_out=False,
        ).set_output(transform="pandas")
        classifier = HistGradientBoostingClassifier(random_state=0, early_stopping=False, **parameters)
        return Pipeline([("encode", encode), ("classify", classifier)])

    def suggest(self, trial: "Trial") -> dict[str, Any]:
        """One point of the search space."""
        return {
            "learning_rate": trial.suggest_float("learning_rate", 0.05, 0.3, log=True),
            "max_iter": trial.suggest_int("max_iter", 40, 80, step=20),
            "max_leaf_nodes": trial.suggest_int("max_leaf_nodes", 7, 31, step=8),
            "l2_regularization": trial.suggest_float("l2_regularization", 0.01, 100.0, log=True),
        }

    def predict(self, fitted: Any, inputs: pd.DataFrame) -> np.ndarray:
        """The probability of each class, shape (n, classes): 0 for a class that was not in the training rows."""
        found = pd.DataFrame(fitted.predict_proba(inputs), columns=fitted.classes_)
        return found.reindex(columns=self.classes, fill_value=0.0).to_numpy()

    def metrics(self, labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
        """All metrics by name; empty without rows. `roc_auc` is the mean over classes, each against the rest."""
        if not len(labels):
            return {}
        found = self.classes[scores.argmax(axis=1)]
        rankings = [
            roc_auc_score(labels == name, scores[:, index])
            for index, name in enumerate(self.classes)
            if 0 < np.mean(labels == name) < 1
        ]
        return {
            self.primary.name: self.primary.measure(labels, scores),
            "accuracy": float(accuracy_score(labels, found)),
            "f1_macro": float(f1_score(labels, found, average="macro")),
            "roc_auc": float(np.mean(rankings)) if rankings else np.nan,
        }

    def plots(self, labels: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
        """Matplotlib figures by file name."""
        found, order = self.classes[scores.argmax(axis=1)], list(self.classes)
        confusion = ConfusionMatrixDisplay.from_predictions(labels, found, labels=order, normalize="true")
        calibration, axes = plt.subplots()
        for index, name in enumerate(order):
            CalibrationDisplay.from_predictions(
                labels == name, scores[:, index], n_bins=10, strategy="quantile", name=name, ax=axes
            )
        return {"confusion.png": confusion.figure_, "calibration.png": calibration}

    def _log_loss(self, labels: np.ndarray, scores: np.ndarray) -> float:
        """The mean of -log(probability of the class that came true); NaN without rows. No probability counts as 0."""
        came_true = scores[labels[:, None] == self.classes]
        return float(-np.log(np.clip(came_true, 1e-6, 1)).mean()) if len(labels) else np.nan
