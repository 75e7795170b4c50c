"""Delta tables: single transactions, no lost appends, no writing into another environment."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from mlplatform.engine.duckdb import DuckDb
from mlplatform.errors import ForbiddenError, MissingTableError
from mlplatform.storage.delta import Tables

NAME = "silver.items"


def items(*rows: tuple[str, int]) -> pa.Table:
    return pa.table({"item": pa.array([r[0] for r in rows]), "amount": pa.array([r[1] for r in rows], pa.int64())})


def content(tables: Tables) -> list[tuple[str, int]]:
    return sorted((row["item"], row["amount"]) for row in tables.read(NAME).to_pylist())


def on_disk(tables: Tables) -> set[str]:
    """Every item that any data file of the table holds, whether or not the newest version refers to it."""
    files = tables.path(NAME).rglob("*.parquet")
    return {item for file in files for item in pq.read_table(file)["item"].to_pylist()}


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    tables = Tables(tmp_path, owner="prod")
    tables.append(NAME, items(("AA1", 5), ("AA2", 50)))
    return tables


WRITERS: dict[str, Callable[[Tables], object]] = {
    "append": lambda tables: tables.append(NAME, items(("ZZ9", 0))),
    "replace": lambda tables: tables.replace(NAME, items(("ZZ9", 0)), where="item = 'ZZ9'"),
    "upsert": lambda tables: tables.upsert(NAME, items(("ZZ9", 0)), ["item"]),
    "upsert nothing": lambda tables: tables.upsert(NAME, items(), ["item"]),
    "create": lambda tables: tables.append("silver.new", items(("ZZ9", 0))),
    "create by replace": lambda tables: tables.replace("silver.new", items(("ZZ9", 0)), where="true"),
    "create by upsert": lambda tables: tables.upsert("silver.new", items(("ZZ9", 0)), ["item"]),
    "delete": lambda tables: tables.delete(NAME, "amount > 0"),
    "compact": lambda tables: tables.compact(NAME),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=list(WRITERS))
def test_another_environment_can_read_and_never_write(tables: Tables, write: Callable[[Tables], object]) -> None:
    foreign = Tables(tables.root, owner="prod", reader="dev")
    with pytest.raises(ForbiddenError, match=r"dev may read prod's tables, not write them: silver\.\w+ is unchanged"):
        write(foreign)
    assert content(foreign) == [("AA1", 5), ("AA2", 50)]
    assert (foreign.version(NAME), foreign.names()) == (0, [NAME])


def test_every_method_that_writes_is_among_those_tested() -> None:
    readers = {"names", "path", "exists", "version", "source", "dataset", "read", "schema", "history"}
    doors = {name for name in vars(Tables) if not name.startswith("_")}
    assert doors - readers == {name for name in WRITERS if name.isidentifier()} - {"create"}


def test_text_can_be_compared_in_tables_that_were_merged_and_compacted(tables: Tables) -> None:
    tables.upsert(NAME, items(("AA1", 6), ("ZZ9", 9)), ["item"])
    tables.compact(NAME)
    assert tables.read(NAME, ["amount"], pc.field("item") == "ZZ9").to_pylist() == [{"amount": 9}]
    found = DuckDb(tables.source).query(f"SELECT amount FROM {NAME} WHERE item = 'ZZ9'")
    assert found.to_pylist() == [{"amount": 9}]


def test_a_replacement_may_bring_a_new_column_and_older_rows_lack_it(tables: Tables) -> None:
    wider = items(("ZZ9", 9)).append_column("gate", pa.array(["B7"]))
    tables.replace(NAME, wider, where="item = 'ZZ9'")
    rows = DuckDb(tables.source).query(f"SELECT item, gate FROM {NAME} ORDER BY item").to_pylist()
    assert [row["gate"] for row in rows] == [None, None, "B7"]


def test_reading_takes_columns_and_filters(tables: Tables) -> None:
    rows = tables.read(NAME, ["item"], pc.field("amount") > 10)
    assert rows.to_pylist() == [{"item": "AA2"}]


def test_a_table_that_is_not_there_is_named_with_those_that_are(tables: Tables) -> None:
    assert not tables.exists("silver.nothing")
    with pytest.raises(MissingTableError, match=r"prod has no table silver.nothing yet \(its tables: silver.items\)"):
        tables.read("silver.nothing")


def test_a_folder_without_a_commit_is_no_table(tables: Tables) -> None:
    (tables.path("silver.unfinished") / "_delta_log").mkdir(parents=True)
    assert tables.names() == [NAME]
    assert not tables.exists("silver.unfinished")


def test_replace_is_one_transaction_and_leaves_other_rows_alone(tables: Tables) -> None:
    version = tables.version(NAME)
    tables.replace(NAME, items(("AA2", 7), ("AA3", 70)), where="item IN ('AA2', 'AA3')")
    assert content(tables) == [("AA1", 5), ("AA2", 7), ("AA3", 70)]
    assert tables.version(NAME) == version + 1


def test_replace_by_nothing_deletes_what_the_predicate_names(tables: Tables) -> None:
    tables.replace(NAME, items(), where="item = 'AA2'")
    assert content(tables) == [("AA1", 5)]


def test_replace_refuses_rows_outside_of_its_predicate(tables: Tables) -> None:
    with pytest.raises(DeltaError, match="1 rows failed validation"):
        tables.replace(NAME, items(("AA2", 7), ("ZZ9", 0)), where="item = 'AA2'")
    assert content(tables) == [("AA1", 5), ("AA2", 50)]


def test_replace_makes_a_table_that_is_not_there(tables: Tables) -> None:
    tables.replace("silver.new", items(("AA1", 5)), where="item = 'AA1'")
    assert tables.names() == [NAME, "silver.new"]


def test_replace_twice_is_the_same_as_once(tables: Tables) -> None:
    for _ in range(2):
        tables.replace(NAME, items(("AA2", 7)), where="item = 'AA2'")
    assert content(tables) == [("AA1", 5), ("AA2", 7)]


def test_upsert_updates_by_key_and_inserts_the_rest(tables: Tables) -> None:
    assert tables.upsert(NAME, items(("AA2", 7), ("AA3", 70)), ["item"]) == 2
    assert content(tables) == [("AA1", 5), ("AA2", 7), ("AA3", 70)]
    assert tables.version(NAME) == 1


def test_upsert_matches_on_all_keys_together(tables: Tables) -> None:
    tables.upsert(NAME, items(("AA2", 50), ("AA2", 51)), ["item", "amount"])
    assert content(tables) == [("AA1", 5), ("AA2", 50), ("AA2", 51)]


def test_upsert_makes_a_table_that_is_not_there(tables: Tables) -> None:
    assert tables.upsert("silver.new", items(("AA1", 5)), ["item"]) == 1
    assert tables.read("silver.new").num_rows == 1


def test_an_append_may_bring_a_new_column(tables: Tables) -> None:
    tables.append(NAME, items(("AA3", 70)).append_column("gate", pa.array(["B4"])))
    gates = {row["item"]: row["gate"] for row in tables.read(NAME).to_pylist()}
    assert gates == {"AA1": None, "AA2": None, "AA3": "B4"}


def test_concurrent_appends_all_arrive(tables: Tables) -> None:
    numbers = range(12)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: Tables(tables.root, owner="prod").append(NAME, items((f"BB{n}", n))), numbers))
    assert {row for row in content(tables) if row[0].startswith("BB")} == {(f"BB{n}", n) for n in numbers}
    assert tables.version(NAME) == len(numbers)


def test_delete_is_for_good(tables: Tables) -> None:
    assert on_disk(tables) == {"AA1", "AA2"}
    assert tables.delete(NAME, "amount > 10") == 1
    assert content(tables) == [("AA1", 5)]
    assert on_disk(tables) == {"AA1"}


def test_delete_that_names_no_row_changes_nothing(tables: Tables) -> None:
    assert tables.delete(NAME, "amount > 1000") == 0
    assert on_disk(tables) == {"AA1", "AA2"}


def test_compact_merges_files_and_keeps_rows(tables: Tables) -> None:
    for number in range(4):
        tables.append(NAME, items((f"BB{number}", number)))
    before = content(tables)
    tables.compact(NAME)
    assert content(tables) == before
    assert len(DeltaTable(str(tables.path(NAME))).file_uris()) == 1


def test_an_earlier_version_can_still_be_read(tables: Tables) -> None:
    version = tables.version(NAME)
    tables.replace(NAME, items(), where="true")
    assert content(tables) == []
    earlier = DeltaTable(str(tables.path(NAME)), version=version).to_pyarrow_table()
    assert sorted(earlier["item"].to_pylist()) == ["AA1", "AA2"]
    assert [commit["version"] for commit in tables.history(NAME)] == [1, 0]
