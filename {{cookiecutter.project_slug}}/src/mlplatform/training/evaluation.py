"""Held-out evaluation: overall, by slice, against the baseline, and what the model looks at."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mlplatform.contract import Project
from mlplatform.registry.baseline import baseline_scores, fit_baseline
from mlplatform.registry.scoring import score_columns
from mlplatform.training.tuning import ModelError

_EXPLAINED_ROWS = 500
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


def evaluate(
    project: Project, fitted: Any, train: pd.DataFrame, holdout: pd.DataFrame, threshold: float | None = None
) -> Evaluation:
    """Judge the fitted model on held-out rows. Raises ModelError where it gives no finite scores or primary metric."""
    model = project.model
    labels = holdout["label"].to_numpy()
    scores = np.asarray(model.predict(fitted, model.inputs(holdout)))
    wanted = (len(holdout), *[len(project.labels.classes)] * bool(project.labels.classes))
    if scores.shape != wanted or not np.isfinite(scores).all():
        raise ModelError(f"Model.predict gives scores of shape {scores.shape}: wanted are finite ones, {wanted}")
    heuristic = fit_baseline(train, project.baseline, project.labels, model.primary)
    sample = holdout.sample(min(_EXPLAINED_ROWS, len(holdout)), random_state=0)
    explanation = model.explain(fitted, model.inputs(sample), sample["label"].to_numpy())
    drawn = {} if explanation.figure is None else {"explanation.png": explanation.figure}
    metrics = _finite(model.metrics(labels, scores))
    if model.primary.name not in metrics:
        raise ModelError(f"Model.metrics gives no finite {model.primary.name} for {len(labels):,} held-out rows")
    if model.decision is not None and threshold is not None:
        decided = model.decision.measure(labels, (scores >= threshold).astype(float))
        metrics |= _finite({model.decision.name: decided})
    return Evaluation(
        metrics=metrics,
        baseline=_finite(model.metrics(labels, baseline_scores(heuristic, holdout, project.labels))),
        baseline_table=heuristic,
        slices=list(_slices(project, holdout, labels, scores)),
        importance=explanation.importance,
        figures={**model.plots(labels, scores), **drawn},
        reference=_reference(project, train, scores),
    )


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if np.isfinite(value)}


def _slices(
    project: Project, holdout: pd.DataFrame, labels: np.ndarray, scores: np.ndarray
) -> Iterator[dict[str, Any]]:
    for column in project.slices:
        for value, index in holdout.groupby(column).indices.items():
            measured = _finite(project.model.metrics(labels[index], scores[index]))
            yield {"column": column, "value": str(value), "rows": len(index), **measured}


def _reference(project: Project, train: pd.DataFrame, held_out_scores: np.ndarray) -> pd.DataFrame:
    """What drift is measured against: a sample of the training rows' inputs.

    The columns of scores hold held-out scores: those of rows that the model was fitted on would look more certain.
    Drift compares each column by itself, so the two need not come from the same rows.
    """
    sample = train.sample(min(_REFERENCE_ROWS, len(train)), random_state=0)
    scores = np.random.default_rng(0).choice(held_out_scores, size=len(sample))
    columns = score_columns(project.labels, scores)
    return project.model.inputs(sample).assign(**columns).reset_index(drop=True)
