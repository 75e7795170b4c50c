"""The heuristic that a first model has to beat: the mean label of each group of rows, or the share of each class."""

import numpy as np
import pandas as pd

from mlplatform.contract import Baseline, Labels


def fit_baseline(train: pd.DataFrame, baseline: Baseline, labels: Labels) -> pd.DataFrame:
    """One row per group of `train` with its score, in the columns of scores, and that of all rows as `overall...`."""
    targets = _targets(train["label"], labels)
    if baseline.groups:
        keys = [train[column] for column in baseline.groups]
        means = targets.groupby(keys, observed=True).mean().reset_index()
    else:
        means = targets.mean().to_frame().T
    return means.assign(**{_overall(column): targets[column].mean() for column in labels.score_columns})


def baseline_scores(fitted: pd.DataFrame, rows: pd.DataFrame, labels: Labels) -> np.ndarray:
    """The scores of each row's group, shape (len(rows),) or (len(rows), classes); of all rows for new groups."""
    columns = list(labels.score_columns)
    groups = [name for name in fitted.columns if name not in {*columns, *map(_overall, columns)}]
    merged = {"on": groups, "how": "left"} if groups else {"how": "cross"}
    found = rows[groups].merge(fitted, **merged)
    scores = np.column_stack([found[c].fillna(fitted[_overall(c)].iloc[0]).to_numpy(dtype=float) for c in columns])
    return scores if labels.classes else scores[:, 0]


def _targets(label: pd.Series, labels: Labels) -> pd.DataFrame:
    if not labels.classes:
        return pd.DataFrame({"score": label})
    return pd.DataFrame({f"score__{name}": (label == name).astype(float) for name in labels.classes})


def _overall(column: str) -> str:
    return column.replace("score", "overall", 1)
