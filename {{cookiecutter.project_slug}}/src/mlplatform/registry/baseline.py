"""The heuristic that a first model has to beat: the mean or median label of each group, or the share of each class."""

from typing import Literal

import numpy as np
import pandas as pd

from mlplatform.contract import Baseline, Labels, Metric


def fit_baseline(train: pd.DataFrame, baseline: Baseline, labels: Labels, metric: Metric | None = None) -> pd.DataFrame:
    """One row per group of `train` with its score, in the columns of scores, and that of all rows as `overall...`.

    Numbers are guessed by their mean or their median, whichever `metric` prefers on `train`: the absolute error of a
    model that knows nothing is smaller than the mean's, if it gives the median.
    """
    mean = _guess(train, baseline, labels, "mean")
    if labels.kind != "number" or metric is None:
        return mean
    median = _guess(train, baseline, labels, "median")
    of_mean, of_median = (
        metric.measure(train["label"].to_numpy(), baseline_scores(guess, train, labels)) for guess in (mean, median)
    )
    return median if (of_median > of_mean if metric.greater_is_better else of_median < of_mean) else mean


def baseline_scores(fitted: pd.DataFrame, rows: pd.DataFrame, labels: Labels) -> np.ndarray:
    """The scores of each row's group, shape (len(rows),) or (len(rows), classes); of all rows for new groups."""
    columns = list(labels.score_columns)
    groups = [name for name in fitted.columns if name not in {*columns, *map(_overall, columns)}]
    merged = {"on": groups, "how": "left"} if groups else {"how": "cross"}
    found = rows[groups].merge(fitted, **merged)
    scores = np.column_stack([found[c].fillna(fitted[_overall(c)].iloc[0]).to_numpy(dtype=float) for c in columns])
    return scores if labels.classes else scores[:, 0]


def _guess(train: pd.DataFrame, baseline: Baseline, labels: Labels, how: Literal["mean", "median"]) -> pd.DataFrame:
    targets = _targets(train["label"], labels)
    if baseline.groups:
        keys = [train[column] for column in baseline.groups]
        guesses = targets.groupby(keys, observed=True).agg(how).reset_index()
    else:
        guesses = targets.agg(how).to_frame().T
    return guesses.assign(**{_overall(column): targets[column].agg(how) for column in labels.score_columns})


def _targets(label: pd.Series, labels: Labels) -> pd.DataFrame:
    if not labels.classes:
        return pd.DataFrame({"score": label})
    return pd.DataFrame({f"score__{name}": (label == name).astype(float) for name in labels.classes})


def _overall(column: str) -> str:
    return column.replace("score", "overall", 1)
