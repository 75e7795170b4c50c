"""The rows of monitoring.metrics: what each window says, and when it is known."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pytest

from mlplatform.config.sections import MonitoringSettings
from mlplatform.contract import Labels
from mlplatform.monitoring import metrics
from mlplatform.storage.catalog import Span
from tiny.model import Estimate
from tiny.project import PROJECT

WINDOW = Span(datetime(2013, 7, 1), datetime(2013, 7, 8))
SETTINGS = MonitoringSettings.model_validate({"min_rows": 3, "label_delay": "2d"}, strict=False)
SLICES = ("region",)
HEURISTIC = np.full(6, 0.5)


@pytest.fixture
def frame() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "region": ["north", "north", "north", "north", "south", None],
            "price": [1.0, 2.0, None, float("nan"), 5.0, float("inf")],
            "kind": ["a", "a", None, "b", "b", "b"],
            "score": [0.1, 0.4, 0.8, 0.9, 0.2, 0.5],
            "label": [False, False, True, None, True, None],
        }
    )


def value(rows: pl.DataFrame, metric: str, column: str = "", slice_: str = "all") -> float:
    found = rows.filter(metric=metric, column=column, slice=slice_)["value"]
    assert len(found) == 1, rows
    return float(found[0])


class Judge(Estimate):
    """A model that is judged by its accuracy."""

    def metrics(self, labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
        return {"accuracy": float(np.mean((scores > 0.5) == labels)), "undefined": float("nan")}


JUDGED = replace(PROJECT, model=Judge(), slices=SLICES)


def test_windows_follow_one_another_on_a_fixed_grid() -> None:
    week = timedelta(days=7)
    first, second = metrics.windows(week, datetime(2013, 7, 1), datetime(2013, 7, 20))
    assert first.end - first.start == week
    assert first.end == second.start
    assert first.start.weekday() == 0
    split = [
        *metrics.windows(week, datetime(2013, 7, 1), first.end),
        *metrics.windows(week, first.end, second.end),
    ]
    assert split == [first, second]


def test_volumes_say_how_much_came_and_how_old_the_newest_is() -> None:
    newest = WINDOW.end - timedelta(hours=2)
    rows = metrics.volumes(
        WINDOW, {"silver.outcomes": metrics.Volume(120, newest), "silver.prices": metrics.Volume(0, None)}
    )
    assert value(rows, "rows", "silver.outcomes") == 120
    assert value(rows, "freshness_seconds", "silver.outcomes") == 7200
    assert value(rows, "rows", "silver.prices") == 0
    assert rows.filter(metric="freshness_seconds", column="silver.prices").is_empty()


def test_inputs_count_rows_and_missing_values(frame: pl.DataFrame) -> None:
    rows = metrics.inputs(WINDOW, frame, None, SETTINGS, SLICES, ["price", "kind", "score"])
    assert value(rows, "rows") == 6
    assert value(rows, "rows", slice_="region=north") == 4
    assert value(rows, "rows", slice_="region=missing") == 1
    assert value(rows, "missing_rate", "price") == pytest.approx(3 / 6)
    assert value(rows, "missing_rate", "kind") == pytest.approx(1 / 6)
    assert value(rows, "missing_rate", "score") == 0
    assert rows.filter(pl.col("metric").is_in(metrics.DRIFT)).is_empty()  # no reference, no drift
    weighed = metrics.inputs(WINDOW, frame, None, SETTINGS, SLICES, ["price"], metrics.Part(weight=2.5))
    assert (value(weighed, "rows"), value(weighed, "rows", slice_="region=north")) == (15, 10)


def test_each_entity_counts_once_by_its_first_way_and_of_requests_by_the_newest() -> None:
    seen = [("a", "online", 1), ("a", "online", 2), ("b", "online", 3), ("b", "batch", 1)]
    times = [WINDOW.start + timedelta(days=day) for _, _, day in seen]
    rows = pl.DataFrame({"item": [item for item, _, _ in seen], "inference": [way for _, way, _ in seen]})
    rows = rows.with_columns(prediction_time=pl.Series(times), variant=pl.lit("champion"))
    found = dict(metrics.parts(rows, ["item"]))
    assert {name: part.height for name, part in found.items()} == {
        "all": 2,
        "inference=batch": 1,
        "inference=online": 3,
    }
    assert set(found["all"].select("item", "inference", "prediction_time").rows()) == {
        ("a", "online", times[1]),
        ("b", "batch", times[3]),
    }


def test_inputs_compare_each_feature_and_the_score_with_the_reference(frame: pl.DataFrame) -> None:
    rows = metrics.inputs(WINDOW, frame, frame, SETTINGS, SLICES, ["price", "kind", "score"], metrics.Part(version=3))
    for metric, column in [("psi", "price"), ("ks", "score"), ("jensen_shannon", "kind")]:
        assert value(rows, metric, column) == 0
    assert set(rows["model_version"]) == {3}
    assert set(rows["available_at"]) == {WINDOW.end}
    moved = metrics.inputs(
        WINDOW, frame.with_columns(pl.col("score") + 1), frame, SETTINGS, SLICES, ["price", "kind", "score"]
    )
    assert value(moved, "ks", "score") == 1
    constant, just = frame.with_columns(score=0.95), SETTINGS.model_copy(update={"min_rows": frame.height})
    far = metrics.inputs(WINDOW, frame, constant, just, SLICES, ["score"])
    assert value(far, "wasserstein", "score") == np.inf


def test_a_reference_without_a_feature_is_an_error(frame: pl.DataFrame) -> None:
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match="price"):
        metrics.inputs(WINDOW, frame, frame.drop("price"), SETTINGS, SLICES, ["price", "score"])


def test_a_handful_of_rows_says_nothing_about_drift(frame: pl.DataFrame) -> None:
    rows = metrics.inputs(WINDOW, frame.head(2), frame, SETTINGS, SLICES, ["price", "score"])
    assert value(rows, "rows") == 2
    assert rows.filter(pl.col("metric").is_in(metrics.DRIFT)).is_empty()


def test_performance_waits_for_labels_and_says_how_many_came(frame: pl.DataFrame) -> None:
    rows = metrics.performance(WINDOW, frame, HEURISTIC, SETTINGS, JUDGED, metrics.Part(version=3))
    assert value(rows, "label_coverage") == pytest.approx(4 / 6)
    assert value(rows, "label_coverage", slice_="region=north") == 0.75
    assert value(rows, "accuracy") == 0.75
    assert value(rows, "accuracy", slice_="region=north") == 1
    assert value(rows, "baseline_accuracy") == 0.5
    guesses = np.array([0.0, 0.0, 1.0, 0.0, 1.0, 0.0])  # right wherever a label is known
    assert value(metrics.performance(WINDOW, frame, guesses, SETTINGS, JUDGED), "baseline_accuracy") == 1
    assert rows.filter(metric="accuracy", slice="region=south").is_empty()  # one label is no evidence
    assert "undefined" not in rows["metric"]
    assert set(rows["available_at"]) == {WINDOW.end + timedelta(days=2)}


def test_the_share_of_late_predictions_is_of_those_that_say_whether_they_were(frame: pl.DataFrame) -> None:
    said = frame.with_columns(late=pl.Series([True, None, False, None, None, None]))
    assert value(metrics.performance(WINDOW, said, HEURISTIC, SETTINGS, JUDGED), "late_share") == 0.5


def test_where_rows_stand_for_several_so_do_the_cells_of_the_confusion() -> None:
    class Mute(Estimate):
        def metrics(self, labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
            return {}

    labels = Labels("multiclass", ("a", "b"))
    owner = replace(PROJECT, labels=labels, model=Mute(), slices=())
    scores = {name: [0.5] * 4 for name in labels.score_columns}
    rows = pl.DataFrame({"label": ["a", "a", "a", "b"], "prediction": ["b", "b", "a", "b"], **scores})
    found = metrics.performance(WINDOW, rows, np.full((4, 2), 0.5), SETTINGS, owner, metrics.Part(weight=2.5))
    assert value(found, "confusion", metrics.cell("a", "b")) == 5


def test_an_empty_window_is_counted_and_nothing_else(frame: pl.DataFrame) -> None:
    empty = frame.clear()
    rows = metrics.inputs(WINDOW, empty, frame, SETTINGS, SLICES, ["price", "score"])
    assert rows["metric"].to_list() == ["rows"]
    assert value(rows, "rows") == 0
    assert metrics.performance(WINDOW, empty, HEURISTIC[:0], SETTINGS, JUDGED).is_empty()


def test_pipelines_report_failures_seconds_and_throughput() -> None:
    inside, outside = WINDOW.end - timedelta(hours=1), WINDOW.end
    runs = pl.DataFrame(
        [
            ("score", inside, 2.0, 100, "finished", 30.0),
            ("score", inside - timedelta(days=1), 4.0, 500, "finished", 50.0),
            ("score", inside, 9.0, None, "failed", None),
            ("score", outside, 100.0, 1, "finished", None),
            ("train", inside, 5.0, None, "failed", None),
        ],
        ["pipeline", "as_of", "seconds", "rows", "status", "lag_seconds"],
        orient="row",
    )
    rows = metrics.pipelines(WINDOW, runs)
    assert value(rows, "runs", "score") == 3
    assert value(rows, "failed_runs", "score") == 1
    assert value(rows, "run_seconds", "score") == 3
    assert value(rows, "rows_per_second", "score") == 100
    assert value(rows, "lag_seconds", "score") == 50
    assert value(rows, "failed_runs", "train") == 1
    assert rows.filter(metric="run_seconds", column="train").is_empty()


def test_rows_have_the_same_columns_whatever_they_say(frame: pl.DataFrame) -> None:
    for rows in (
        metrics.volumes(WINDOW, {}),
        metrics.inputs(WINDOW, frame, frame, SETTINGS, SLICES, ["price", "score"]),
        metrics.performance(WINDOW, frame, HEURISTIC, SETTINGS, JUDGED),
    ):
        assert rows.schema == pl.Schema(metrics.SCHEMA)


def test_a_metric_of_the_owner_is_measured_on_the_rows_whose_labels_came(frame: pl.DataFrame) -> None:
    seen: list[int] = []

    def cost(rows: pd.DataFrame) -> float:
        seen.append(len(rows))
        return float((rows["label"] * rows["price"].fillna(100.0)).sum())

    owned = replace(JUDGED, metrics={"cost": cost})
    rows = metrics.performance(WINDOW, frame, HEURISTIC, SETTINGS, owned)
    assert value(rows, "cost") == 105.0
    assert seen == [4]
    few = SETTINGS.model_copy(update={"min_rows": 5})
    assert "cost" not in metrics.performance(WINDOW, frame, HEURISTIC, few, owned)["metric"]
