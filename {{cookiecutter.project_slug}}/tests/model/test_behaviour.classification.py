"""The champion's behaviour on rows that it was not fitted on: who is likely to be late, and why."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from {{ cookiecutter.package_name }}.environment import Environment
from {{ cookiecutter.package_name }}.lakehouse.frames import labelled
from {{ cookiecutter.package_name }}.registry.store import Registry
from {{ cookiecutter.package_name }}.usecase import model
from {{ cookiecutter.package_name }}.usecase.baseline import baseline_scores
from {{ cookiecutter.package_name }}.usecase.columns import CATEGORICAL, NUMERIC

pytestmark = pytest.mark.xdist_group("gates")

Array = np.ndarray[Any, Any]
Score = Callable[[pd.DataFrame], Array]


@pytest.fixture(scope="module")
def registry(world: Path, load_env: Callable[..., Environment]) -> Registry:
    return Registry(load_env("prod", world))


@pytest.fixture(scope="module")
def held_out(registry: Registry, now: datetime) -> pd.DataFrame:
    """Every flight of the champion's held-out window that has a label."""
    tags = registry.version(1).tags
    start, end = (datetime.fromisoformat(tags[name]) for name in ("train_end", "holdout_end"))
    rows: pd.DataFrame = labelled(registry.env, now, start, end).to_pandas()
    return rows


@pytest.fixture(scope="module")
def score(registry: Registry) -> Score:
    """The champion, as it is served: what the registry holds, behind its signature."""
    champion = registry.load(1)
    return lambda frame: model.score(champion.predict(model.features(frame)))


@pytest.fixture(scope="module")
def baseline(registry: Registry) -> Score:
    table = pd.read_parquet(registry.files(1, "baseline.parquet"))
    return lambda frame: baseline_scores(table, frame)


def metrics(frame: pd.DataFrame, score: Score) -> dict[str, float]:
    return model.metrics(frame["label"].to_numpy(), score(frame))


# Performance: worth having, everywhere, and not too good to be true.


def test_the_model_beats_the_baseline(score: Score, baseline: Score, held_out: pd.DataFrame) -> None:
    ours, theirs = metrics(held_out, score), metrics(held_out, baseline)
    assert ours["average_precision"] > theirs["average_precision"] + 0.05
    assert ours["roc_auc"] > theirs["roc_auc"] + 0.05
    assert ours["brier"] < theirs["brier"]


@pytest.mark.parametrize("origin", ["EWR", "JFK", "LGA"])
def test_the_model_ranks_the_flights_of_every_airport(
    score: Score, baseline: Score, held_out: pd.DataFrame, origin: str
) -> None:
    flights = held_out[held_out["origin"] == origin]
    ours = metrics(flights, score)
    assert ours["roc_auc"] > 0.62
    assert ours["average_precision"] > metrics(flights, baseline)["average_precision"]


def test_the_model_is_not_too_good_to_be_true(score: Score, held_out: pd.DataFrame) -> None:
    """Two hours ahead nobody ranks flights this well: a score like that has seen the future."""
    assert metrics(held_out, score)["roc_auc"] < 0.85


def test_scores_are_probabilities_that_agree_with_what_happens(score: Score, held_out: pd.DataFrame) -> None:
    scores = score(held_out)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scores.mean() == pytest.approx(held_out["label"].mean(), abs=0.08)
    likely = scores >= np.quantile(scores, 0.9)
    assert held_out["label"][likely].mean() > 1.5 * held_out["label"].mean()


# Invariance: what must not matter does not.


def test_the_number_of_the_flight_and_of_the_aircraft_do_not_matter(score: Score, held_out: pd.DataFrame) -> None:
    renamed = held_out.assign(flight_id="ZZ9999-2013010100", tailnum="N00000")
    assert np.array_equal(score(renamed), score(held_out))


def test_a_flight_scores_the_same_alone_in_a_batch_and_in_any_order(score: Score, held_out: pd.DataFrame) -> None:
    flights = held_out.head(200)
    together = score(flights)
    assert score(flights.iloc[[7]]) == pytest.approx(together[[7]])
    assert score(flights.iloc[::-1])[::-1] == pytest.approx(together)


def test_a_trifle_in_the_weather_moves_scores_by_a_trifle(score: Score, held_out: pd.DataFrame) -> None:
    warmer = held_out.assign(origin_weather__temp=held_out["origin_weather__temp"] + 0.1)
    assert np.abs(score(warmer) - score(held_out)).mean() < 0.01 * score(held_out).std()


# Direction: more trouble before the flight, a higher risk of being late.


@pytest.mark.parametrize(
    ("columns", "less", "more"),
    [
        (("origin_congestion__dep_delay_3h", "origin_congestion__late_share_3h"), 0.25, 0.75),
        (("carrier_delays__arr_delay_1d", "carrier_delays__late_share_1d"), 0.25, 0.75),
        (("route_delays__arr_delay_1d", "route_delays__late_share_1d"), 0.25, 0.75),
        (("origin_congestion__backlog_3h",), 0.25, 0.95),
        (("origin_weather__precip",), 0.25, 0.95),
        (("local_hour",), 0.05, 0.75),
    ],
    ids=["late departures", "late carrier", "late route", "backlog", "rain", "later in the day"],
)
def test_more_trouble_raises_scores_on_average(
    score: Score, held_out: pd.DataFrame, columns: tuple[str, ...], less: float, more: float
) -> None:
    calm, troubled = (held_out.assign(**held_out[list(columns)].quantile(share)) for share in (less, more))
    assert score(troubled).mean() > score(calm).mean()


# Robustness: what is missing or new is scored all the same.


def test_a_flight_of_which_little_is_known_is_scored(score: Score, held_out: pd.DataFrame) -> None:
    unknown = held_out.head(100).assign(**dict.fromkeys(NUMERIC, np.nan), **dict.fromkeys(CATEGORICAL))
    assert np.isfinite(score(unknown)).all()


def test_a_new_carrier_and_a_new_destination_are_scored_like_the_others(score: Score, held_out: pd.DataFrame) -> None:
    known, new = score(held_out), score(held_out.assign(carrier="ZZ", dest="ZZZ"))
    assert np.isfinite(new).all()
    assert abs(new.mean() - known.mean()) < 0.5 * known.std()
