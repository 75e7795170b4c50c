"""What the model is worth on flights that it was not fitted on: something, everywhere, and not too much to be true."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from mlplatform.contract import Model

Score = Callable[[pd.DataFrame], np.ndarray]
Metrics = Callable[[pd.DataFrame, Score], dict[str, float]]


@pytest.fixture(scope="session")
def metrics(model: Model) -> Metrics:
    """metrics(flights, score): how well a score fits what happened."""
    return lambda flights, score: dict(model.metrics(flights["label"].to_numpy(), score(flights)))


def test_the_model_beats_the_baseline(metrics: Metrics, score: Score, baseline: Score, held_out: pd.DataFrame) -> None:
    ours, theirs = metrics(held_out, score), metrics(held_out, baseline)
    assert ours["rmse"] < 0.98 * theirs["rmse"]
    assert ours["mae"] < theirs["mae"]


@pytest.mark.parametrize("origin", ["EWR", "JFK", "LGA"])
def test_the_model_explains_delays_at_every_airport(
    metrics: Metrics, score: Score, baseline: Score, held_out: pd.DataFrame, origin: str
) -> None:
    flights = held_out[held_out["origin"] == origin]
    ours = metrics(flights, score)
    assert ours["r2"] > 0.03
    assert ours["rmse"] < metrics(flights, baseline)["rmse"]


def test_the_model_is_not_too_good_to_be_true(metrics: Metrics, score: Score, held_out: pd.DataFrame) -> None:
    """Two hours ahead nobody explains delays this well: a model that does has seen the future."""
    assert metrics(held_out, score)["r2"] < 0.5


def test_scores_are_minutes_that_agree_with_what_happens(score: Score, held_out: pd.DataFrame) -> None:
    scores = score(held_out)
    assert ((scores > -120) & (scores < 1000)).all()
    assert scores.mean() == pytest.approx(held_out["label"].mean(), abs=8)
    late = scores >= np.quantile(scores, 0.9)
    assert held_out["label"][late].mean() > held_out["label"].mean() + 10
