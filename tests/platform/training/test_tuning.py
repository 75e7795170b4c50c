"""The search for hyperparameters: within its budget, on folds that follow time, never worse than where it began."""

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import TimeSeriesSplit

from mlplatform.config.training import Tuning
from mlplatform.training import tuning
from tiny.features import CATEGORICAL, NUMERIC
from tiny.model import Estimate

ROWS = 240
MODEL = Estimate()
SETTINGS = Tuning(trials=2, timeout=timedelta(seconds=60), folds=2, fraction=1.0)


@pytest.fixture(scope="module")
def train() -> pd.DataFrame:
    """Rows in the order of time; the first number says what the label is, give or take."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({name: random.normal(size=ROWS) for name in NUMERIC})
    for name in CATEGORICAL:
        frame[name] = random.choice(["a", "b", "c"], ROWS)
    frame["label"] = (frame[NUMERIC[0]] + random.normal(0, 0.5, ROWS) > 0).astype(float)
    return frame


@pytest.fixture(scope="module")
def found(train: pd.DataFrame) -> tuple[dict[str, Any], pd.DataFrame]:
    return tuning.search(MODEL, train, SETTINGS)


def best(values: "pd.Series[float]") -> float:
    return float(values.max() if MODEL.primary.greater_is_better else values.min())


def test_the_search_stays_within_its_trials(found: tuple[dict[str, Any], pd.DataFrame]) -> None:
    assert len(found[1]) == SETTINGS.trials


def test_the_search_begins_with_the_defaults_and_never_ends_below_them(
    found: tuple[dict[str, Any], pd.DataFrame],
) -> None:
    parameters, trials = found
    assert {name: trials.iloc[0][f"params_{name}"] for name in MODEL.defaults} == dict(MODEL.defaults)
    winner = trials[trials["value"] == best(trials["value"])].iloc[0]
    assert {name: winner[f"params_{name}"] for name in parameters} == parameters
    sign = 1 if MODEL.primary.greater_is_better else -1
    assert sign * winner["value"] >= sign * trials.iloc[0]["value"]


def test_what_the_search_finds_can_be_built(found: tuple[dict[str, Any], pd.DataFrame], train: pd.DataFrame) -> None:
    fitted = MODEL.build(found[0]).fit(MODEL.inputs(train), train["label"])
    assert len(MODEL.predict(fitted, MODEL.inputs(train))) == ROWS


def test_the_same_rows_give_the_same_search(found: tuple[dict[str, Any], pd.DataFrame], train: pd.DataFrame) -> None:
    again, trials = tuning.search(MODEL, train, SETTINGS)
    assert again == found[0]
    assert trials["value"].tolist() == found[1]["value"].tolist()


def test_a_trial_is_the_mean_over_folds_that_train_on_what_came_before(
    found: tuple[dict[str, Any], pd.DataFrame], train: pd.DataFrame
) -> None:
    scores = []
    for past, future in TimeSeriesSplit(SETTINGS.folds).split(train):
        assert past.max() < future.min()
        fitted = MODEL.build(MODEL.defaults).fit(MODEL.inputs(train.iloc[past]), train["label"].iloc[past])
        predicted = MODEL.predict(fitted, MODEL.inputs(train.iloc[future]))
        scores.append(MODEL.primary.measure(train["label"].iloc[future].to_numpy(), predicted))
    assert found[1]["value"].iloc[0] == pytest.approx(np.mean(scores))


def test_the_search_stops_when_its_time_is_over(train: pd.DataFrame) -> None:
    hurried = SETTINGS.model_copy(update={"trials": 100, "timeout": timedelta(seconds=0.3)})
    _, trials = tuning.search(MODEL, train, hurried)
    assert 1 <= len(trials) < 100


def test_a_fraction_searches_on_fewer_rows_in_the_order_of_time(train: pd.DataFrame) -> None:
    half = SETTINGS.model_copy(update={"trials": 1, "fraction": 0.5})
    _, on_half = tuning.search(MODEL, train, half)
    kept = train.sample(frac=0.5, random_state=0).sort_index()
    _, on_kept = tuning.search(MODEL, kept, half.model_copy(update={"fraction": 1.0}))
    assert on_half["value"].tolist() == on_kept["value"].tolist()


def test_progress_is_reported_trial_by_trial(train: pd.DataFrame) -> None:
    reports: list[tuple[int, int, float]] = []
    _, trials = tuning.search(MODEL, train, SETTINGS, lambda *report: reports.append(report))
    assert [(number, of) for number, of, _ in reports] == [(1, 2), (2, 2)]
    assert reports[-1][2] == best(trials["value"])
