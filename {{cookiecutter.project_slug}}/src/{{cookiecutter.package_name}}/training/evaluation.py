"""Held-out evaluation: overall, by slice, against the baseline, and what the model looks at."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from ..usecase import model
from ..usecase.baseline import baseline_scores, fit_baseline
from ..usecase.columns import SLICES

_SHAP_ROWS = 500
_REFERENCE_ROWS = 20_000


@dataclass(frozen=True)
class Evaluation:
    """Metrics on the held-out rows; `slices` has one dictionary per slice: column, value, rows and metrics."""

    metrics: dict[str, float]
    baseline: dict[str, float]
    baseline_table: pd.DataFrame
    slices: list[dict[str, Any]]
    importance: pd.Series
    figures: dict[str, Any]
    reference: pd.DataFrame


def evaluate(fitted: Pipeline, train: pd.DataFrame, holdout: pd.DataFrame) -> Evaluation:
    labels = holdout["label"].to_numpy()
    scores = model.score(getattr(fitted, model.PREDICT)(model.features(holdout)))
    importance, summary = _explain(fitted, holdout)
    heuristic = fit_baseline(train, model.BASELINE)
    return Evaluation(
        metrics=model.metrics(labels, scores),
        baseline=model.metrics(labels, baseline_scores(heuristic, holdout)),
        baseline_table=heuristic,
        slices=_slices(holdout, labels, scores),
        importance=importance,
        figures={**model.plots(labels, scores), "shap_summary.png": summary},
        reference=_reference(train, scores),
    )


def _slices(holdout: pd.DataFrame, labels: np.ndarray, scores: np.ndarray) -> list[dict[str, Any]]:
    rows = []
    for column in SLICES:
        for value, index in holdout.groupby(column).indices.items():
            measured = model.metrics(labels[index], scores[index])
            rows.append({"column": column, "value": str(value), "rows": len(index), **measured})
    return rows


def _explain(fitted: Pipeline, holdout: pd.DataFrame) -> tuple[pd.Series, Any]:
    """Mean absolute SHAP value per input, largest first, and the summary plot (Lundberg and Lee, 2017)."""
    import matplotlib.pyplot as plt
    import shap

    sample = model.features(holdout).sample(min(_SHAP_ROWS, len(holdout)), random_state=0)
    inputs = fitted[:-1].transform(sample)
    values = shap.TreeExplainer(fitted[-1]).shap_values(inputs)
    importance = pd.Series(np.abs(values).mean(axis=0), index=inputs.columns).sort_values(ascending=False)
    plt.figure()
    shap.summary_plot(values, inputs, max_display=15, show=False, rng=np.random.default_rng(0))
    plt.tight_layout()
    return importance, plt.gcf()


def _reference(train: pd.DataFrame, held_out_scores: np.ndarray) -> pd.DataFrame:
    """What drift is measured against: a sample of the training rows' inputs.

    The column `score` holds held-out scores: those of rows that the model was fitted on would look more certain.
    Drift compares each column by itself, so the two need not come from the same rows.
    """
    sample = train.sample(min(_REFERENCE_ROWS, len(train)), random_state=0)
    scores = np.random.default_rng(0).choice(held_out_scores, size=len(sample))
    return model.features(sample).assign(score=scores).reset_index(drop=True)
