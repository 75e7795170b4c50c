"""Alerts: N of the last M windows and the latest, by metric, column and slice; what asks for retraining."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from mlplatform.config.sections import MonitoringSettings, Rule
from mlplatform.monitoring import alerts, metrics
from mlplatform.storage.catalog import Span

WEEK = timedelta(days=7)
START = datetime(2013, 7, 1)
LATER = datetime(2014, 1, 1)


def rule(**given: Any) -> Rule:
    return Rule.model_validate(
        {"name": "drift", "metric": "ks", "above": 0.2, "windows": "2 of 3", **given}, strict=False
    )


def history(
    values: Sequence[float | None], metric: str = "ks", column: str = "price", slice_: str = "all"
) -> pl.DataFrame:
    """Return one metric row a week from `START`; None is a week in which the metric is missing."""
    rows = [
        (START + i * WEEK, START + (i + 1) * WEEK, metric, column, slice_, value, 1, START + (i + 1) * WEEK)
        for i, value in enumerate(values)
        if value is not None
    ]
    return pl.DataFrame(rows, metrics.SCHEMA, orient="row")


def weeks(found: pl.DataFrame) -> list[int]:
    return [(end - START) // WEEK for end in found["window_end"]]


@pytest.mark.parametrize(
    ("values", "raised"),
    [
        ([0.3, 0.1, 0.1], []),
        ([0.3, 0.3, 0.1], [2]),
        ([0.3, 0.1, 0.3], [3]),
        ([0.3, 0.3, 0.3, 0.1], [2, 3]),
        ([0.3, 0.1, 0.1, 0.3], []),
        ([0.3, None, 0.3], [3]),
        ([0.3, None, None, 0.3], []),
        ([0.2, 0.2, 0.2], []),
    ],
    ids=[
        "once",
        "not the latest",
        "with a pause",
        "goes on",
        "too far apart",
        "gap",
        "long gap",
        "at the limit",
    ],
)
def test_two_of_the_last_three_windows_and_the_latest(values: list[float | None], raised: list[int]) -> None:
    assert weeks(alerts.evaluate(history(values), [rule()], LATER)) == raised


def test_a_rule_without_windows_fires_at_once() -> None:
    assert weeks(alerts.evaluate(history([0.3]), [rule(windows="1 of 1")], LATER)) == [1]


def test_the_message_has_the_numbers() -> None:
    known = history([0.3, 0.314], slice_="region=north")
    found = alerts.Alert(*alerts.evaluate(known, [rule(slices=["*"])], LATER).row(0))
    assert found.message == (
        "price [region=north]: ks 0.314 is above 0.2 (2013-07-08 to 2013-07-15, 2 of the last 3 windows)"
    )
    assert (found.value, found.threshold, found.raised_at) == (0.314, 0.2, START + 2 * WEEK)


def test_a_value_can_be_too_low() -> None:
    low = rule(name="worse", metric="roc_auc", above=None, below=0.6)
    found = alerts.evaluate(history([0.55, 0.5], "roc_auc", ""), [low], LATER)
    assert found["message"].to_list() == [
        "roc_auc 0.5 is below 0.6 (2013-07-08 to 2013-07-15, 2 of the last 3 windows)"
    ]


def test_a_value_next_to_the_limit_is_told_from_it() -> None:
    low = rule(name="worse", metric="roc_auc", above=None, below=0.71)
    found = alerts.evaluate(history([0.7098, 0.70996], "roc_auc", ""), [low], LATER)
    assert found["message"][0].startswith("roc_auc 0.70996 is below 0.71 ")


def test_a_seasonal_column_that_the_rule_leaves_out_stays_silent() -> None:
    known = pl.concat([history([4.0, 8.0, 12.0], column="season__level"), history([0.3, 0.3], column="price")])
    found = alerts.evaluate(known, [rule(except_columns=["season__*"])], LATER)
    assert found["column"].unique().to_list() == ["price"]
    assert "season__level" in alerts.evaluate(known, [rule()], LATER)["column"]


def test_slices_alarm_only_where_the_rule_names_them() -> None:
    known = history([0.3, 0.3], slice_="region=north")
    assert alerts.evaluate(known, [rule()], LATER).is_empty()
    assert not alerts.evaluate(known, [rule(slices=["region=*"])], LATER).is_empty()


def test_a_drifted_month_alarms_and_noise_does_not() -> None:
    rng = np.random.default_rng(3)
    settings = MonitoringSettings(window=WEEK)
    reference = pl.DataFrame({"price": rng.normal(10, 3, 20_000), "score": rng.uniform(size=20_000)})
    rows = []
    for week in range(12):
        shift = 1.5 if week >= 8 else 0.0
        frame = pl.DataFrame({"price": rng.normal(10 + shift, 3, 2_000), "score": rng.uniform(size=2_000)})
        window = Span(START + week * WEEK, START + (week + 1) * WEEK)
        rows.append(metrics.inputs(window, frame, reference, settings, (), ["price", "score"]))
    found = alerts.evaluate(pl.concat(rows), [rule(above=0.1)], LATER)
    assert found["column"].unique().to_list() == ["price"]
    assert weeks(found) == [10, 11, 12]


def test_alerts_are_a_function_of_what_was_known() -> None:
    places = [{"column": "volume"}, {"slice_": "region=north"}]
    known = pl.concat([history([0.3, 0.3, 0.1, 0.3, 0.3]), *(history([0.3] * 5, **place) for place in places)])
    rules = [rule(), rule(name="any", windows="1 of 1", action="retrain", slices=["*"])]
    whole = alerts.evaluate(known, rules, LATER)
    replay = pl.concat(alerts.evaluate(known, rules, START + i * WEEK) for i in range(1, 6))
    assert replay.unique(alerts.KEYS).sort("raised_at", *alerts.KEYS).equals(whole)
    assert alerts.evaluate(known.sample(fraction=1, shuffle=True, seed=1), rules, LATER).equals(whole)
    assert whole.select(alerts.KEYS).is_unique().all()


def test_a_row_that_came_late_does_not_rewrite_an_older_alert() -> None:
    known = history([0.3, 0.3])
    late = known.with_columns(
        available_at=pl.when(pl.col("window_end") == START + WEEK).then(LATER).otherwise("available_at")
    )
    assert weeks(alerts.evaluate(known, [rule()], LATER)) == [2]
    assert weeks(alerts.evaluate(late, [rule()], LATER)) == []


def test_no_metrics_give_no_alerts() -> None:
    found = alerts.evaluate(history([]), [rule()], LATER)
    assert found.is_empty()
    assert found.columns == list(alerts.SCHEMA)


def test_a_rule_that_watches_nothing_is_named() -> None:
    typo = rule(name="typo", columns=["wnid"])
    assert alerts.silent(history([0.1]), [rule(), typo]) == [
        "rule 'typo' watches nothing: no metric 'ks' for columns wnid and slices all"
    ]


class TestRetrainingDue:
    raised = alerts.evaluate(history([0.3, 0.3]), [rule(action="retrain")], LATER)
    cooldown = timedelta(days=14)

    def due(self, last_trained: datetime | None, as_of: datetime = START + 3 * WEEK) -> alerts.Alert | None:
        return alerts.retraining_due(self.raised, last_trained, self.cooldown, as_of)

    def test_an_alert_that_nobody_answered_is_due(self) -> None:
        found = self.due(START - WEEK)
        assert found is not None
        assert (found.rule, found.window_end) == ("drift", START + 2 * WEEK)
        assert self.due(None) == found

    def test_a_later_training_has_answered_it(self) -> None:
        assert self.due(START + 2 * WEEK, as_of=LATER) is None

    def test_one_that_was_raised_later_about_an_earlier_window_is_answered_too(self) -> None:
        late = self.raised.with_columns(pl.col("raised_at") + WEEK)  # labels had to come first
        assert alerts.retraining_due(late, START + 2 * WEEK, self.cooldown, LATER) is None

    def test_nothing_is_due_within_the_cooldown(self) -> None:
        assert self.due(START + WEEK, as_of=START + 2 * WEEK) is None
        assert self.due(START + WEEK, as_of=START + 3 * WEEK) is not None

    def test_the_future_is_not_known(self) -> None:
        assert self.due(None, as_of=START + WEEK) is None

    def test_an_alert_that_only_notifies_is_not_due(self) -> None:
        told = alerts.evaluate(history([0.3, 0.3]), [rule()], LATER)
        assert not told.is_empty()
        assert alerts.retraining_due(told, None, self.cooldown, LATER) is None
