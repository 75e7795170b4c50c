"""The model's behaviour on flights that it was not fitted on: what must not matter, what must, and what is new."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from {{ cookiecutter.package_name }}.features import CATEGORICAL, NUMERIC

Score = Callable[[pd.DataFrame], np.ndarray]


# Invariance: what must not matter does not.


def test_the_number_of_the_flight_and_of_the_aircraft_do_not_matter(score: Score, held_out: pd.DataFrame) -> None:
    renamed = held_out.assign(flight_id="ZZ9999-2013010100", tailnum="N00000")
    assert np.array_equal(score(renamed), score(held_out))


def test_a_trifle_in_the_weather_moves_scores_by_a_trifle(lateness: Score, held_out: pd.DataFrame) -> None:
    warmer = held_out.assign(origin_weather__temp=held_out["origin_weather__temp"] + 0.1)
    assert np.abs(lateness(warmer) - lateness(held_out)).mean() < 0.01 * lateness(held_out).std()


# Direction: more trouble before the flight, later flights.


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
    lateness: Score, held_out: pd.DataFrame, columns: tuple[str, ...], less: float, more: float
) -> None:
    calm, troubled = (held_out.assign(**held_out[list(columns)].quantile(share)) for share in (less, more))
    assert lateness(troubled).mean() > lateness(calm).mean()


# Robustness: what is missing or new is scored all the same.


def test_a_flight_of_which_little_is_known_is_scored(lateness: Score, held_out: pd.DataFrame) -> None:
    unknown = held_out.head(100).assign(**dict.fromkeys(NUMERIC, np.nan), **dict.fromkeys(CATEGORICAL))
    assert np.isfinite(lateness(unknown)).all()


def test_a_new_carrier_and_a_new_destination_are_scored_like_the_others(
    lateness: Score, held_out: pd.DataFrame
) -> None:
    known, new = lateness(held_out), lateness(held_out.assign(carrier="ZZ", dest="ZZZ"))
    assert np.isfinite(new).all()
    assert abs(new.mean() - known.mean()) < 0.5 * known.std()
