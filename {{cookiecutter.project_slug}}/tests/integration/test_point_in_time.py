"""No training or scoring row holds a value that was not available at its prediction time."""

from datetime import datetime, timedelta

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from {{ cookiecutter.package_name }}.environment import Environment
from {{ cookiecutter.package_name }}.lakehouse import frames
from {{ cookiecutter.package_name }}.lakehouse.duckdb_engine import DuckDb
from {{ cookiecutter.package_name }}.usecase.features import ENTITY_KEY, FEATURE_VIEWS

pytestmark = pytest.mark.xdist_group("integration")

DAY = datetime(2013, 2, 20)
HOUR = timedelta(hours=1)


def features_of(env: Environment, start: datetime, end: datetime) -> pl.DataFrame:
    """The labelled rows of a span, without the label: a label is allowed to come later."""
    return pl.DataFrame(pl.from_arrow(frames.labelled(env, end + timedelta(days=10), start, end))).drop("label")


def poison(env: Environment, after: datetime) -> None:
    """Make every feature value that became available after `after` absurd."""
    for view in FEATURE_VIEWS:
        table = pl.DataFrame(pl.from_arrow(env.tables.read(view.table)))
        numbers = view.columns(env.tables.schema(view.table))
        absurd = [pl.when(pl.col("available_at") > after).then(-1e9).otherwise(pl.col(n)).alias(n) for n in numbers]
        env.tables.replace(view.table, table.with_columns(absurd).to_arrow(), where="true")


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hours=st.integers(min_value=0, max_value=24 * 10))
def test_a_poisoned_future_changes_no_row_before_it(prod: Environment, hours: int) -> None:
    until = DAY + hours * HOUR
    versions = {view.table: pl.DataFrame(pl.from_arrow(prod.tables.read(view.table))) for view in FEATURE_VIEWS}
    before = features_of(prod, until - timedelta(days=1), until)
    try:
        poison(prod, until)
        after = features_of(prod, until - timedelta(days=1), until)
        later = features_of(prod, until + 6 * HOUR, until + timedelta(days=1))
    finally:
        for name, rows in versions.items():
            prod.tables.replace(name, rows.to_arrow(), where="true")
    assert before.height > 100
    assert before.equals(after)
    # The poison works: rows after it are full of it.
    assert any((later[name] == -1e9).any() for name in later.columns if later[name].dtype == pl.Float64)


def test_no_feature_is_younger_than_the_prediction(prod: Environment) -> None:
    rows = features_of(prod, DAY, DAY + timedelta(days=2))
    assert (rows["feature_time"] <= rows["prediction_time"]).all()
    assert rows[ENTITY_KEY].is_unique().all()


def join(spine: list[datetime], feature: list[tuple[datetime, datetime, float]], ttl: timedelta) -> list[float | None]:
    """The values that the point-in-time join gives at the spine's times; a feature is (event, available, value)."""
    rows = pa.table({"k": ["a"] * len(spine), "prediction_time": pa.array(spine, pa.timestamp("us"))})
    events, known, values = zip(*feature, strict=True)
    view = pa.table(
        {
            "k": ["a"] * len(feature),
            "event_timestamp": pa.array(events, pa.timestamp("us")),
            "available_at": pa.array(known, pa.timestamp("us")),
            "value": pa.array(values, pa.float64()),
        }
    )
    views = [("v", ("k",), int(ttl.total_seconds()), ["value"])]
    joined = DuckDb().point_in_time(rows, views, as_of=datetime.max, given={"features.v": view})
    found: list[float | None] = joined.sort_by("prediction_time")["v__value"].to_pylist()
    return found


def test_a_value_counts_from_when_it_was_available_not_from_when_it_happened() -> None:
    late = [(DAY, DAY + 3 * HOUR, 1.0)]
    assert join([DAY + 2 * HOUR, DAY + 3 * HOUR], late, ttl=24 * HOUR) == [None, 1.0]


def test_a_value_older_than_its_time_to_live_is_not_used() -> None:
    assert join([DAY + 5 * HOUR, DAY + 7 * HOUR], [(DAY, DAY + HOUR, 1.0)], ttl=6 * HOUR) == [1.0, None]


def test_a_late_row_does_not_hide_a_newer_event() -> None:
    rows = [(DAY + 2 * HOUR, DAY + 3 * HOUR, 2.0), (DAY + HOUR, DAY + 4 * HOUR, 1.0)]
    assert join([DAY + 5 * HOUR], rows, ttl=24 * HOUR) == [2.0]


def test_of_rows_available_at_the_same_time_the_newest_event_counts() -> None:
    rows = [(DAY + n * HOUR, DAY + 9 * HOUR, float(n)) for n in (3, 1, 5, 2)]
    assert join([DAY + 9 * HOUR], rows, ttl=24 * HOUR) == [5.0]
