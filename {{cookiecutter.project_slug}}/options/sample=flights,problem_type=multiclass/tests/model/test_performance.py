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
    assert ours["log_loss"] < theirs["log_loss"] - 0.03
    assert ours["roc_auc"] > theirs["roc_auc"] + 0.05
    assert ours["accuracy"] > theirs["accuracy"]


@pytest.mark.parametrize("origin", ["EWR", "JFK", "LGA"])
def test_the_model_ranks_the_flights_of_every_airport(
    metrics: Metrics, score: Score, baseline: Score, held_out: pd.DataFrame, origin: str
) -> None:
    flights = held_out[held_out["origin"] == origin]
    ours = metrics(flights, score)
    assert ours["roc_auc"] > 0.62
    assert ours["log_loss"] < metrics(flights, baseline)["log_loss"]


def test_the_model_is_not_too_good_to_be_true(metrics: Metrics, score: Score, held_out: pd.DataFrame) -> None:
    """Two hours ahead nobody ranks flights this well: a score like that has seen the future."""
    assert metrics(held_out, score)["roc_auc"] < 0.85


def test_scores_are_probabilities_that_agree_with_what_happens(score: Score, held_out: pd.DataFrame) -> None:
    scores = score(held_out)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scores.sum(axis=1) == pytest.approx(1)
    for column, name in enumerate(("early", "on_time", "late")):
        came_true, probability = held_out["label"] == name, scores[:, column]
        assert probability.mean() == pytest.approx(came_true.mean(), abs=0.08)
        likely = probability >= np.quantile(probability, 0.9)
        assert came_true[likely].mean() > 1.2 * came_true.mean()
