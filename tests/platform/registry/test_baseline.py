"""The heuristic that a first model has to beat."""

import numpy as np
import pandas as pd
import pytest

from mlplatform.contract import Baseline, Labels, Metric
from mlplatform.registry.baseline import baseline_scores, fit_baseline

ROWS = pd.DataFrame({"kind": list("aaaabbbb"), "label": [1.0, 1.0, 2.0, 20.0, 5.0, 5.0, 6.0, 44.0]})


def off(labels: np.ndarray, scores: np.ndarray) -> float:
    return float(np.abs(labels - scores).mean())


def squared(labels: np.ndarray, scores: np.ndarray) -> float:
    return float(((labels - scores) ** 2).mean())


@pytest.mark.parametrize(
    ("metric", "a", "b", "new"),
    [
        (Metric("mae", off, greater_is_better=False), 1.5, 5.5, 5.0),
        (Metric("closeness", lambda labels, scores: -off(labels, scores)), 1.5, 5.5, 5.0),
        (Metric("mse", squared, greater_is_better=False), 6.0, 15.0, 10.5),
        (None, 6.0, 15.0, 10.5),
    ],
    ids=["absolute error", "greater is better", "squared error", "no metric"],
)
def test_a_number_is_guessed_by_what_the_metric_prefers(metric: Metric | None, a: float, b: float, new: float) -> None:
    labels = Labels("number")
    fitted = fit_baseline(ROWS, Baseline(groups=("kind",)), labels, metric)
    found = baseline_scores(fitted, pd.DataFrame({"kind": ["a", "b", "new"]}), labels)
    assert found.tolist() == [a, b, new]


def test_a_yes_or_no_is_guessed_by_its_share_whatever_the_metric() -> None:
    rows, metric = ROWS.assign(label=[0, 0, 0, 1, 0, 0, 0, 1]), Metric("mae", off, greater_is_better=False)
    fitted = fit_baseline(rows, Baseline(), Labels("binary"), metric)
    assert baseline_scores(fitted, rows, Labels("binary")).tolist() == [0.25] * 8
