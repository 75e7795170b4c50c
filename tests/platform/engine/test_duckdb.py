"""The engine: each table as it was known at a time, and joins that see nothing later."""

import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mlplatform.engine import View
from mlplatform.engine.duckdb import BATCH, DuckDb
from mlplatform.errors import ForbiddenError, MissingTableError, QueryError
from mlplatform.storage.delta import DeltaCatalog

NOON = datetime(2013, 4, 1, 12)
HOUR = timedelta(hours=1)
TIME = pa.timestamp("us")


def table(columns: Mapping[str, pa.DataType], rows: Iterable[tuple[Any, ...]]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows], pa.schema(dict(columns)))


def known(*rows: tuple[str, datetime]) -> pa.Table:
    return table({"item": pa.string(), "available_at": TIME}, rows)


@pytest.fixture
def engine(tmp_path: Path) -> DuckDb:
    """An engine over Delta tables: three items that became known an hour apart, and a table without that column."""
    catalog = DeltaCatalog(tmp_path, owner="dev", reader="dev")
    catalog.append("silver.items", known(("AA1", NOON - HOUR), ("AA2", NOON), ("AA3", NOON + HOUR)))
    catalog.append("ops.runs", pa.table({"item": ["AA1"]}))
    return DuckDb(lambda name: catalog.snapshot(name) if catalog.exists(name) else None)


def items(engine: DuckDb, **options: Any) -> list[str]:
    return sorted(engine.query("SELECT item FROM silver.items", **options).arrow()["item"].to_pylist())


def test_without_a_time_everything_is_shown(engine: DuckDb) -> None:
    assert items(engine) == ["AA1", "AA2", "AA3"]


def test_as_of_hides_what_was_not_known_yet(engine: DuckDb) -> None:
    assert items(engine, as_of=NOON) == ["AA1", "AA2"]
    assert items(engine, as_of=NOON - timedelta(microseconds=1)) == ["AA1"]


def test_as_of_reaches_every_place_where_a_table_is_named(engine: DuckDb) -> None:
    sql = """
        WITH early AS (SELECT * FROM silver.items)
        SELECT (SELECT count(*) FROM silver.items) AS counted, count(*) AS joined
        FROM early JOIN silver.items AS again USING (item)
    """
    assert engine.query(sql, as_of=NOON).arrow().to_pylist() == [{"counted": 2, "joined": 2}]


def test_since_hides_what_was_known_before(engine: DuckDb) -> None:
    assert items(engine, as_of=NOON, since=NOON - HOUR) == ["AA2"]


def test_a_table_without_a_time_of_availability_is_shown_whole(engine: DuckDb) -> None:
    assert engine.query("SELECT * FROM ops.runs", as_of=datetime(2000, 1, 1)).count() == 1


def test_given_rows_stand_in_for_a_stored_table_and_are_cut_like_it(engine: DuckDb) -> None:
    rows = known(("ZZ8", NOON), ("ZZ9", NOON + HOUR))
    assert items(engine, given={"silver.items": rows}) == ["ZZ8", "ZZ9"]
    assert items(engine, given={"silver.items": rows}, as_of=NOON) == ["ZZ8"]


def test_given_tables_of_their_own_are_shown_whole(engine: DuckDb) -> None:
    rows = known(("ZZ8", NOON), ("ZZ9", NOON + HOUR))
    assert engine.query("SELECT * FROM given.mine", given={"given.mine": rows}, as_of=NOON).count() == 2


def test_a_table_that_is_not_there_is_an_error_that_names_it(engine: DuckDb) -> None:
    with pytest.raises(MissingTableError, match="nothing"):
        engine.query("SELECT * FROM silver.nothing")


def test_a_query_sees_nothing_of_another_also_at_the_same_time(engine: DuckDb) -> None:
    def asked(number: int) -> list[str]:
        rows = known((f"AA{number}", NOON))
        return items(DuckDb(), given={"silver.items": rows}) + items(engine, as_of=NOON - HOUR)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(asked, range(40))) == [[f"AA{number}", "AA1"] for number in range(40)]
    with pytest.raises(MissingTableError, match=r"silver\.items"):
        DuckDb().query("SELECT * FROM silver.items")


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM silver.items",
        "COPY (SELECT 1) TO '{file}'",
        "SELECT 1; COPY (SELECT 1) TO '{file}'",
        "ATTACH '{file}'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{file}'",
        "",
    ],
)
def test_sql_reads_and_does_nothing_else(engine: DuckDb, tmp_path: Path, sql: str) -> None:
    file = tmp_path / "made"
    with pytest.raises(ForbiddenError, match="one SELECT"):
        engine.query(sql.format(file=file))
    assert not file.exists()
    assert items(engine) == ["AA1", "AA2", "AA3"]


def test_the_names_of_tables_can_be_written_in_capitals(engine: DuckDb) -> None:
    assert engine.query("SELECT count(*) AS n FROM Silver.ITEMS").arrow()["n"].to_pylist() == [3]


# Point in time: an item at noon, and what its shop's stock was known to be.

STOCK = {"shop": pa.string(), "event_timestamp": TIME, "available_at": TIME, "level": pa.float64()}
VIEW = View("stock", ("shop",), 6 * 3600, ("level",))


def joined(*stock: tuple[str, datetime, datetime, float | None], at: datetime = NOON, **options: Any) -> dict[str, Any]:
    """What an item from north at `at` is joined with; a row of stock is (shop, event, available, level)."""
    entities = table({"item_id": pa.string(), "shop": pa.string(), "prediction_time": TIME}, [("AA1", "north", at)])
    given = {"features.stock": table(STOCK, stock)}
    (row,) = DuckDb().point_in_time(entities, [VIEW], given=given, **{"as_of": at, **options}).arrow().to_pylist()
    return dict(row)


def test_the_newest_value_that_was_available_is_joined() -> None:
    row = joined(("north", NOON - 3 * HOUR, NOON - 2 * HOUR, 40.0), ("north", NOON - 2 * HOUR, NOON - HOUR, 50.0))
    assert row["stock__level"] == 50.0
    assert row["feature_time"] == NOON - 2 * HOUR


def test_a_value_available_at_the_very_moment_counts_and_a_microsecond_later_does_not() -> None:
    event = NOON - HOUR
    assert joined(("north", event, NOON, 50.0))["stock__level"] == 50.0
    assert joined(("north", event, NOON + timedelta(microseconds=1), 50.0), as_of=NOON + HOUR)["stock__level"] is None


def test_an_event_in_the_past_that_became_known_later_is_not_seen() -> None:
    stock = [("north", NOON - 3 * HOUR, NOON - HOUR, 40.0), ("north", NOON - HOUR, NOON + HOUR, 99.0)]
    row = joined(*stock, as_of=NOON + HOUR)
    assert row["stock__level"] == 40.0


def test_a_late_row_does_not_hide_a_newer_event() -> None:
    row = joined(("north", NOON - 2 * HOUR, NOON - HOUR, 50.0), ("north", NOON - 5 * HOUR, NOON - HOUR / 2, 10.0))
    assert row["stock__level"] == 50.0


def test_of_events_that_become_available_together_the_latest_counts() -> None:
    for rows in (
        [("north", NOON - 3 * HOUR, NOON - HOUR, 40.0), ("north", NOON - 2 * HOUR, NOON - HOUR, 50.0)],
        [("north", NOON - 2 * HOUR, NOON - HOUR, 50.0), ("north", NOON - 3 * HOUR, NOON - HOUR, 40.0)],
    ):
        assert joined(*rows)["stock__level"] == 50.0


def test_a_value_outlives_its_time_to_live_by_not_a_second() -> None:
    event = NOON - 6 * HOUR
    assert joined(("north", event, event, 50.0))["stock__level"] == 50.0
    assert joined(("north", event, event, 50.0), at=NOON + timedelta(seconds=1))["stock__level"] is None


def test_a_newer_value_that_is_missing_is_not_replaced_by_an_older_one() -> None:
    row = joined(("north", NOON - 3 * HOUR, NOON - 2 * HOUR, 40.0), ("north", NOON - 2 * HOUR, NOON - HOUR, None))
    assert row["stock__level"] is None
    assert row["feature_time"] == NOON - 2 * HOUR


def test_an_entity_without_a_value_is_kept_with_nulls() -> None:
    row = joined(("south", NOON - HOUR, NOON - HOUR, 50.0))
    assert (row["item_id"], row["stock__level"], row["feature_time"]) == ("AA1", None, None)


def test_views_join_side_by_side_each_with_its_own_keys() -> None:
    times = {"event_timestamp": TIME, "available_at": TIME}
    sales = {"shop": pa.string(), "kind": pa.string(), **times, "share": pa.float64()}
    entities = table(
        {"shop": pa.string(), "kind": pa.string(), "prediction_time": TIME},
        [("north", "tea", NOON), ("north", "tin", NOON), ("south", "tin", NOON)],
    )
    given = {
        "features.stock": table(STOCK, [("north", NOON - HOUR, NOON - HOUR, 50.0)]),
        "features.sales": table(sales, [("north", "tin", NOON - 2 * HOUR, NOON - 2 * HOUR, 0.5)]),
    }
    views = [VIEW, View("sales", ("shop", "kind"), 3600 * 24, ("share",))]
    rows = DuckDb().point_in_time(entities, views, as_of=NOON, given=given).arrow().to_pylist()
    found = {(r["shop"], r["kind"]): (r["stock__level"], r["sales__share"], r["feature_time"]) for r in rows}
    assert found == {
        ("north", "tea"): (50.0, None, NOON - HOUR),
        ("north", "tin"): (50.0, 0.5, NOON - HOUR),
        ("south", "tin"): (None, None, None),
    }


# Relations: rows that are computed when they are asked for, and no more of them at once than one batch.


def quarter(rows: pa.RecordBatch) -> pa.RecordBatch:
    return rows.filter(pc.equal(pc.bit_wise_and(rows["n"], 3), 0))


def test_a_relation_says_what_it_holds_in_each_way(engine: DuckDb) -> None:
    numbers = DuckDb().query("SELECT range AS n FROM range(250000)")
    kept = numbers.map(quarter, numbers.schema)
    for relation, rows in ((numbers, 250_000), (kept, 62_500)):
        assert relation.schema == pa.schema({"n": pa.int64()})
        assert relation.count() == rows
        assert relation.arrow().num_rows == rows
        batches = list(relation.batches())
        assert sum(batch.num_rows for batch in batches) == rows
        assert max(batch.num_rows for batch in batches) <= BATCH
        assert pl.DataFrame(relation).height == rows
    assert kept.arrow()["n"][:3].to_pylist() == [0, 4, 8]


def test_a_relation_stands_in_for_a_table_and_is_computed_once() -> None:
    calls = []

    def seen(rows: pa.RecordBatch) -> pa.RecordBatch:
        calls.append(rows.num_rows)
        return rows

    numbers = DuckDb().query("SELECT range AS n FROM range(10)")
    mapped = numbers.map(seen, numbers.schema)
    for _ in range(2):
        total = DuckDb().query("SELECT sum(n) AS total FROM given.mine", given={"given.mine": mapped})
        assert total.arrow().to_pylist() == [{"total": 45}]
    assert calls == [10]


STREAMED = """
import resource
from mlplatform.engine.duckdb import DuckDb

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

small = DuckDb(memory_limit="100MB").query("SELECT range AS n FROM range(1000)")
assert sum(batch.num_rows for batch in small.batches()) == 1000
before = peak()
large = DuckDb(memory_limit="100MB").query("SELECT range AS n, 'text ' || range AS text FROM range(10000000)")
assert sum(batch.num_rows for batch in large.map(lambda rows: rows, large.schema).batches()) == 10_000_000
print(peak() - before)
"""


def test_batches_are_streamed_and_not_collected_first() -> None:
    """Ten million rows, 300 MB of them, in a process of their own."""
    done = subprocess.run([sys.executable, "-c", STREAMED], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    assert float(done.stdout) < 200  # MB


def test_a_mistake_that_shows_only_when_rows_are_computed_is_told_as_one() -> None:
    broken = DuckDb().query("SELECT CAST('x' || range AS INT) AS n FROM range(3)")
    with pytest.raises(QueryError, match="x0"):
        broken.arrow()
    with pytest.raises(QueryError, match="x0"):
        list(broken.batches())


def test_a_mistake_in_sql_is_told_with_its_line() -> None:
    for sql in ("SELECT range AS n,\n  nonsense\nFROM range(3)", "SELECT\n  nonsense(1) AS n"):
        with pytest.raises(QueryError, match="LINE 2: "):
            DuckDb().query(sql).schema  # noqa: B018
