"""The heuristic that a first model has to beat: the mean label of each group, such as carrier and hour of day."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def baseline_scores(train: pd.DataFrame, test: pd.DataFrame, groups: Sequence[str]) -> np.ndarray:
    """The mean `label` of each row's group in `train`, shape (len(test),); unseen groups get the overall mean."""
    means = train.groupby(list(groups), observed=True)["label"].mean().rename("score")
    return (
        test[list(groups)]
        .merge(means, how="left", left_on=list(groups), right_index=True)["score"]
        .fillna(train["label"].mean())
        .to_numpy()
    )
