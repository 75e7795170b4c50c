"""The heuristic that a first model has to beat: the mean label of each group of rows."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def fit_baseline(train: pd.DataFrame, groups: Sequence[str]) -> pd.DataFrame:
    """One row per group of `train` with its mean label as `score`, and the mean of all as `overall`."""
    means = train.groupby(list(groups), observed=True)["label"].mean().rename("score").reset_index()
    return means.assign(overall=train["label"].mean())


def baseline_scores(baseline: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
    """The mean label of each row's group, shape (len(rows),); the overall mean for groups that were not seen."""
    groups = [column for column in baseline.columns if column not in ("score", "overall")]
    scores = rows[groups].merge(baseline, how="left", on=groups)["score"]
    return scores.fillna(baseline["overall"].iloc[0]).to_numpy()
