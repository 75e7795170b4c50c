"""What must hold of the forecast: the SQL on days written by hand, the model on days that were made up."""

from datetime import date, datetime

import numpy as np
import pandas as pd
import pytest

from mlplatform.testing import sql

from early_warning.features import COLUMNS
from early_warning.project import PROJECT, badly_wrong

DAY = {
    "date": "2012/03/04",
    "precipitation": "0.5",
    "temp_max": "12.8",
    "temp_min": "5.0",
    "wind": "4.7",
    "weather": "rain",
}


def test_a_day_is_known_the_next_morning_at_six() -> None:
    good, refused = sql.judged(PROJECT, "observations", DAY)
    assert refused.is_empty()
    row = good.row(0, named=True)
    assert row["day"] == date(2012, 3, 4)
    assert row["available_at"] == datetime(2012, 3, 5, 6)


@pytest.mark.parametrize("change", [{"temp_max": "warm"}, {"weather": "frogs"}, {"date": "yesterday"}])
def test_what_cannot_be_a_day_is_refused(change: dict[str, str]) -> None:
    good, refused = sql.judged(PROJECT, "observations", DAY | change)
    assert (good.height, refused.height) == (0, 1)


def test_tomorrow_is_forecast_from_today() -> None:
    good, _ = sql.judged(PROJECT, "observations", DAY)
    tables = {"silver.observations": good}
    entity = sql.query(PROJECT, "entities.sql", tables).row(0, named=True)
    assert entity["day"] == date(2012, 3, 5)
    assert entity["prediction_time"] == datetime(2012, 3, 5, 6)
    past = sql.query(PROJECT, "features/past_days.sql", tables).row(0, named=True)
    assert past["temp_max_1d"] == pytest.approx(12.8)
    assert past["available_at"] <= entity["prediction_time"]


def test_a_warmer_yesterday_makes_a_warmer_forecast() -> None:
    chance = np.random.default_rng(0)
    days = pd.DataFrame(chance.normal(size=(200, len(COLUMNS))), columns=list(COLUMNS))
    labels = 15 + 4 * days["past_days__temp_max_1d"].to_numpy() + chance.normal(size=200)
    model = PROJECT.model
    fitted = model.build(model.defaults).fit(model.inputs(days), labels)
    warmer = days.assign(past_days__temp_max_1d=days["past_days__temp_max_1d"] + 1)
    gained = model.predict(fitted, model.inputs(warmer)) - model.predict(fitted, model.inputs(days))
    assert gained == pytest.approx(np.full(200, 4), abs=0.3)


def test_five_degrees_are_not_badly_wrong_and_six_are() -> None:
    days = pd.DataFrame({"score": [10.0, 10.0, 10.0, 10.0], "label": [10.0, 15.0, 16.0, 3.0]})
    assert badly_wrong(days) == 0.5
