"""The model's behaviour on rows that it was not fitted on. Put here what a good model of yours must and must not do:
ignore what does not matter, follow what does, and score what is new or missing.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from {{ cookiecutter.package_name }}.features import CATEGORICAL, NUMERIC

Score = Callable[[pd.DataFrame], np.ndarray]


def mean(scores: np.ndarray) -> float:
    """The mean score; where there is one per class, that of the last."""
    return float(scores.reshape(len(scores), -1)[:, -1].mean())


def test_a_larger_amount_raises_scores_on_average(score: Score, held_out: pd.DataFrame) -> None:
    assert mean(score(held_out.assign(amount=90.0))) > mean(score(held_out.assign(amount=10.0)))


def test_the_name_of_an_item_does_not_matter(score: Score, held_out: pd.DataFrame) -> None:
    assert np.array_equal(score(held_out.assign(item_id="item-999999")), score(held_out))


def test_an_item_of_which_nothing_is_known_is_scored(score: Score, held_out: pd.DataFrame) -> None:
    unknown = held_out.assign(**dict.fromkeys(NUMERIC, np.nan), **dict.fromkeys(CATEGORICAL))
    assert np.isfinite(score(unknown)).all()


def test_a_new_kind_is_scored(score: Score, held_out: pd.DataFrame) -> None:
    assert np.isfinite(score(held_out.assign(kind="new"))).all()
