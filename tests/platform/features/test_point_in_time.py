"""No training or scoring row holds a value that was not available at its prediction time."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mlplatform.engine import View
from mlplatform.engine.duckdb import DuckDb
from mlplatform.environment import Environment
from mlplatform.features import SUPERSEDED, frames
from mlplatform.pipelines.featurize import featurize
from mlplatform.preparation.silver import PROVENANCE
from mlplatform.storage.catalog import Window
from steps import read
from tiny.deliveries import START
from tiny.project import PROJECT

LoadEnv = Callable[..., Environment]
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
ABSURD = -1e9
(KEY,) = PROJECT.entity.keys


def times(number: int) -> list[datetime]:
    """Times to the minute, chosen at random once and for all."""
    draw = random.Random(1)
    return [START + 40 * DAY + timedelta(minutes=draw.randrange(28 * 24 * 60)) for _ in range(number)]


def poison(env: Environment, name: str, keys: tuple[str, ...], time: datetime) -> None:
    """Make absurd what the rows say that became available after `time`: numbers, names, and when it happened."""
    rows = read(env, name).filter(pl.col("available_at") > time)
    assert rows.height > 0
    spared = (*keys, "available_at", SUPERSEDED, *PROVENANCE)
    lies = [_lie(kind, time).alias(column) for column, kind in rows.schema.items() if column not in spared]
    env.catalog.replace(name, rows.with_columns(lies).to_arrow(), Window("available_at", time))


def _lie(kind: pl.DataType, time: datetime) -> pl.Expr:
    if kind.is_temporal():
        return pl.lit(time - HOUR, kind)  # as if it had happened, or were due, just before
    return pl.lit(ABSURD if kind.is_numeric() else "poison", kind)


def built(env: Environment, as_of: datetime, time: datetime) -> list[pl.DataFrame]:
    """What is scored and what is trained on, of the two days before `time`. A label may come later: it is left out."""
    scored = frames.entities(env, as_of, time - 2 * DAY, time)
    trained = frames.labelled(env, as_of, time - 2 * DAY, time)
    return [pl.DataFrame(scored), pl.DataFrame(trained).drop("label")]


@pytest.mark.parametrize("time", times(3), ids=str)
def test_a_poisoned_future_changes_no_row_before_it(
    time: datetime, world: Path, prod: Environment, load_env: LoadEnv, now: datetime
) -> None:
    before = built(load_env("prod", world), now, time)
    for table in PROJECT.tables:
        poison(prod, table.table, table.keys, time)
    featurize(prod, now, backfill=True)
    for view in PROJECT.views:
        poison(prod, view.table, view.keys, time)
    for clean, poisoned in zip(before, built(prod, now, time), strict=True):
        assert clean.height > 10
        assert_frame_equal(poisoned, clean, check_exact=False, rel_tol=1e-9, abs_tol=1e-9)
    # The poison works: rows after it are full of it.
    later = pl.DataFrame(frames.entities(prod, now, time, time + DAY))
    assert any((later[name] == ABSURD).any() for name, kind in later.schema.items() if kind.is_float())


def test_every_entity_has_one_row_whose_features_are_no_younger_than_the_prediction(
    world: Path, load_env: LoadEnv, now: datetime
) -> None:
    for rows in built(load_env("prod", world), now, now - DAY):
        assert rows[KEY].is_unique().all()
        assert (rows["feature_time"] <= rows["prediction_time"]).all()
        assert rows["feature_time"].null_count() == 0


def test_a_label_that_came_later_is_not_known_yet(world: Path, load_env: LoadEnv, now: datetime) -> None:
    env, time = load_env("prod", world), now - 3 * DAY
    keys = pl.DataFrame(frames.entities(env, time, time - 2 * DAY, time)).select(KEY)
    outcomes = pl.DataFrame(env.engine.query(PROJECT.sql("labels.sql"))).join(keys, on=KEY)
    later = pl.col("available_at") > time
    known = pl.DataFrame(frames.labelled(env, time, time - 2 * DAY, time))
    assert set(known[KEY]) == set(outcomes.filter(~later)[KEY])
    assert outcomes.filter(later).height > 0


# A feature row is (event, available, value), in hours after START; the value names the row.
Row = tuple[int, int, float]


def join(
    predictions: list[int], features: list[Row], ttl: int, keys: tuple[str, ...] = ("key",)
) -> list[tuple[float | None, int | None]]:
    """The value, and the time of the event it comes from, that the join gives at each hour of `predictions`."""
    entities = pa.table({"key": ["a"] * len(predictions), "prediction_time": _times(predictions)})
    view = pa.table(
        {
            "key": ["a"] * len(features),
            "event_timestamp": _times([event for event, _, _ in features]),
            "available_at": _times([available for _, available, _ in features]),
            "value": pa.array([value for _, _, value in features], pa.float64()),
        }
    )
    views = [View("view", keys, ttl * 3600, ["value"])]
    joined = DuckDb().point_in_time(entities, views, as_of=datetime.max, given={"features.view": view}).arrow()
    return [
        (row["view__value"], row["feature_time"] and (row["feature_time"] - START) // HOUR)
        for row in joined.sort_by("prediction_time").to_pylist()
    ]


def _times(hours: list[int]) -> pa.Array:
    return pa.array([START + hour * HOUR for hour in hours], pa.timestamp("us"))


def known(prediction: int, features: list[Row], ttl: int) -> tuple[float | None, int | None]:
    """The same, said plainly: of the rows available by then the latest event, as last reported, if not too old."""
    available = [row for row in features if row[1] <= prediction]
    if not available:
        return None, None
    event, _, value = max(available)
    return (value, event) if prediction - event <= ttl else (None, None)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    predictions=st.lists(st.integers(0, 30), min_size=1, max_size=5, unique=True).map(sorted),
    features=st.lists(
        st.tuples(st.integers(0, 20), st.integers(0, 8)), max_size=8, unique_by=lambda row: (row[0], sum(row))
    ).map(lambda rows: [(event, event + delay, float(name)) for name, (event, delay) in enumerate(rows)]),
    ttl=st.integers(0, 12),
)
def test_the_join_finds_the_latest_event_that_was_known(predictions: list[int], features: list[Row], ttl: int) -> None:
    assert join(predictions, features, ttl) == [known(hour, features, ttl) for hour in predictions]


def test_a_view_without_keys_holds_for_every_entity() -> None:
    rows = [(1, 2, 1.0), (3, 4, 2.0)]
    assert join([1, 2, 5], rows, ttl=24, keys=()) == [(None, None), (1.0, 1), (2.0, 3)]


def test_a_value_counts_from_when_it_was_available_not_from_when_it_happened() -> None:
    assert join([2, 3], [(0, 3, 1.0)], ttl=24) == [(None, None), (1.0, 0)]


def test_a_value_older_than_its_time_to_live_is_not_used() -> None:
    assert join([5, 6, 7], [(0, 1, 1.0)], ttl=6) == [(1.0, 0), (1.0, 0), (None, None)]


def test_a_late_row_does_not_hide_a_newer_event() -> None:
    assert join([5], [(2, 3, 2.0), (1, 4, 1.0)], ttl=24) == [(2.0, 2)]


def test_of_rows_available_at_the_same_time_the_newest_event_counts() -> None:
    rows = [(n, 9, float(n)) for n in (3, 1, 5, 2)]
    assert join([9], rows, ttl=24) == [(5.0, 5)]


def test_a_correction_of_the_same_event_counts_once_it_is_known() -> None:
    assert join([3, 4], [(1, 2, 1.0), (1, 4, 2.0)], ttl=24) == [(1.0, 1), (2.0, 1)]
