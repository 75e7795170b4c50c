"""Delta tables: single transactions, no lost appends, no writing into another environment."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from mlplatform.engine.duckdb import DuckDb
from mlplatform.errors import ForbiddenError, MissingTableError, StorageError
from mlplatform.storage import ops
from mlplatform.storage.catalog import Among, Catalog, Window, open_catalog
from mlplatform.storage.delta import DeltaCatalog

NAME = "silver.items"
EVERYTHING = Window("available_at")
NOT_AT_ALL = timedelta()  # how long earlier versions are kept
Write = Callable[[Catalog], object]


def items(*rows: tuple[str, int]) -> pa.Table:
    return pa.table({"item": pa.array([r[0] for r in rows]), "amount": pa.array([r[1] for r in rows], pa.int64())})


def content(catalog: DeltaCatalog) -> list[tuple[str, int]]:
    return sorted((row["item"], row["amount"]) for row in catalog.read(NAME).to_pylist())


def folder(catalog: DeltaCatalog, name: str) -> Path:
    assert isinstance(catalog.root, Path)
    return catalog.root.joinpath(*name.split("."))


def on_disk(catalog: DeltaCatalog) -> set[str]:
    """Every item that any data file of the table holds, whether or not the newest version refers to it."""
    files = folder(catalog, NAME).glob("*.parquet")
    return {item for file in files for item in pq.read_table(file)["item"].to_pylist()}


@pytest.fixture
def catalog(tmp_path: Path) -> DeltaCatalog:
    catalog = DeltaCatalog(tmp_path, owner="prod", reader="prod")
    catalog.append(NAME, items(("AA1", 5), ("AA2", 50)))
    return catalog


WRITERS: dict[str, Write] = {
    "append": lambda catalog: catalog.append(NAME, items(("ZZ9", 0))),
    "replace": lambda catalog: catalog.replace(NAME, items(("ZZ9", 0)), Among("item", ["ZZ9"])),
    "upsert": lambda catalog: catalog.upsert(NAME, items(("ZZ9", 0)), ["item"]),
    "upsert nothing": lambda catalog: catalog.upsert(NAME, items(), ["item"]),
    "create": lambda catalog: catalog.append("silver.new", items(("ZZ9", 0))),
    "create by replace": lambda catalog: catalog.replace("silver.new", items(("ZZ9", 0)), EVERYTHING),
    "create by upsert": lambda catalog: catalog.upsert("silver.new", items(("ZZ9", 0)), ["item"]),
    "delete": lambda catalog: catalog.delete(NAME, EVERYTHING),
    "remove": lambda catalog: catalog.remove(NAME, items(("AA1", 5)).select(["item"])),
    "compact": lambda catalog: catalog.compact(NAME, NOT_AT_ALL),
    "lease": lambda catalog: catalog.lease("me").__enter__(),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=list(WRITERS))
def test_another_environment_can_read_and_never_write(catalog: DeltaCatalog, write: Write) -> None:
    foreign = DeltaCatalog(catalog.root, owner="prod", reader="dev")
    told = r"dev may read prod's tables, not write them: (silver\.\w+|its lease) is unchanged"
    with pytest.raises(ForbiddenError, match=told):
        write(foreign)
    assert content(foreign) == [("AA1", 5), ("AA2", 50)]
    assert (foreign.snapshot(NAME).version, foreign.names()) == (0, [NAME])


def test_every_method_that_writes_is_among_those_tested() -> None:
    readers = {"names", "exists", "snapshot", "read", "count", "history", "mark", "changes"}
    doors = {name for name in vars(DeltaCatalog) if not name.startswith("_")}
    assert doors - readers == {name for name in WRITERS if name.isidentifier()} - {"create"}


@pytest.mark.parametrize("name", ["upsert", "remove"])
def test_a_damaged_file_that_a_writer_needs_is_named_and_nothing_is_changed(catalog: DeltaCatalog, name: str) -> None:
    (file,) = folder(catalog, NAME).glob("*.parquet")
    before = file.read_bytes()
    file.write_bytes(before[: len(before) // 2])
    with pytest.raises(StorageError, match=rf"^{folder(catalog, NAME)}: .*A file of this table is damaged or missing"):
        WRITERS[name](catalog)
    file.write_bytes(before)
    assert content(catalog) == [("AA1", 5), ("AA2", 50)]


def test_text_can_be_compared_in_tables_that_were_merged_and_compacted(catalog: DeltaCatalog) -> None:
    catalog.upsert(NAME, items(("AA1", 6), ("ZZ9", 9)), ["item"])
    catalog.compact(NAME, NOT_AT_ALL)
    found = DuckDb(catalog.snapshot).query(f"SELECT amount FROM {NAME} WHERE item = 'ZZ9'").arrow()
    assert found.to_pylist() == [{"amount": 9}]
    assert catalog.delete(NAME, Among("item", ["ZZ9"])) == 1
    assert content(catalog) == [("AA1", 6), ("AA2", 50)]


def test_a_replacement_may_bring_a_new_column_and_older_rows_lack_it(catalog: DeltaCatalog) -> None:
    wider = items(("ZZ9", 9)).append_column("gate", pa.array(["B7"]))
    assert catalog.replace(NAME, wider, Among("item", ["ZZ9"])) == 1
    rows = DuckDb(catalog.snapshot).query(f"SELECT item, gate FROM {NAME} ORDER BY item").arrow()
    assert rows["gate"].to_pylist() == [None, None, "B7"]


def test_reading_takes_columns(catalog: DeltaCatalog) -> None:
    assert catalog.read(NAME, ["item"]).column_names == ["item"]
    assert catalog.count(NAME) == 2


APRIL = datetime(2013, 4, 1)
MICROSECOND = timedelta(microseconds=1)


@pytest.fixture
def hours(catalog: DeltaCatalog) -> DeltaCatalog:
    """silver.hours: four files, of one row each, an hour apart, in microseconds that a file's statistics round away."""
    for hour in range(4):
        at = APRIL + timedelta(hours=hour, microseconds=700)
        catalog.append("silver.hours", pa.table({"hour": [hour], "at": pa.array([at], pa.timestamp("us"))}))
    return catalog


@pytest.mark.parametrize(
    ("after", "until", "found"),
    [
        (None, None, [0, 1, 2, 3]),
        (APRIL, None, [0, 1, 2, 3]),
        (APRIL + timedelta(hours=1, microseconds=699), APRIL + timedelta(hours=2, microseconds=700), [1, 2]),
        (APRIL + timedelta(hours=1, microseconds=700), APRIL + timedelta(hours=2, microseconds=699), []),
        (None, APRIL + timedelta(hours=1), [0]),
    ],
    ids=["everything", "after", "from edge to edge", "between the edges", "until"],
)
def test_a_window_reads_the_same_rows_whichever_files_it_leaves_out(
    hours: DeltaCatalog, after: datetime | None, until: datetime | None, found: list[int]
) -> None:
    window = Window("at", after, until)
    assert sorted(hours.read("silver.hours", ["hour"], window)["hour"].to_pylist()) == found
    kept = hours.snapshot("silver.hours", window).files
    assert set(found) <= {hour for file in kept for hour in pq.read_table(file)["hour"].to_pylist()}
    assert len(kept) < 4 or len(found) == 4
    gone = hours.delete("silver.hours", window)
    assert gone == len(found)
    assert sorted(hours.read("silver.hours")["hour"].to_pylist()) == sorted({0, 1, 2, 3} - set(found))


def test_rows_from_before_a_column_came_are_read_where_a_window_says_so(hours: DeltaCatalog) -> None:
    for hour, way in ((4, "batch"), (5, "online")):
        row = {"hour": [hour], "at": pa.array([APRIL], pa.timestamp("us")), "way": [way]}
        hours.append("silver.hours", pa.table(row))
    assert sorted(hours.read("silver.hours", ["hour"], Window("at", until=APRIL))["hour"].to_pylist()) == [4, 5]
    for or_null, found in ((True, [0, 1, 2, 3, 4]), (False, [4])):
        window = Window("at", among=Among("way", ["batch"], or_null))
        assert sorted(hours.read("silver.hours", ["hour"], window)["hour"].to_pylist()) == found


def test_a_window_of_a_table_without_rows_is_empty(hours: DeltaCatalog) -> None:
    hours.delete("silver.hours", Window("at"))
    assert hours.read("silver.hours", ["hour"], Window("at", APRIL, APRIL + timedelta(days=1))).num_rows == 0


def test_a_table_of_the_platform_that_is_not_there_yet_is_empty(catalog: DeltaCatalog) -> None:
    for name in ops.SCHEMAS:
        assert catalog.read(name).schema == ops.SCHEMAS[name]
    assert catalog.read(ops.RUNS, ["as_of"]).column_names == ["as_of"]
    assert not catalog.exists(ops.RUNS)


def test_rows_are_written_batch_by_batch_and_counted(catalog: DeltaCatalog) -> None:
    relation = DuckDb().query("SELECT 'item' || range AS item, range AS amount FROM range(250000)")
    assert catalog.replace("silver.many", relation, EVERYTHING) == 250_000
    assert catalog.append("silver.many", relation) == 250_000
    assert catalog.count("silver.many") == 500_000


@pytest.mark.parametrize("name", ["a b", "größe", "100%", "a*b", "a?b", "a&b"])
def test_a_folder_may_have_any_name_that_delta_can_store(tmp_path: Path, name: str) -> None:
    catalog = open_catalog(tmp_path, name, owner="prod", reader="prod")
    catalog.append(NAME, items(("AA1", 5)))
    catalog.upsert(NAME, items(("AA2", 50)), ["item"])
    shutil.copytree(tmp_path / name, tmp_path / "axb")  # which a pattern would mean, too
    assert [catalog.count(NAME), catalog.read(NAME).num_rows] == [2, 2]
    assert DuckDb(catalog.snapshot).query(f"SELECT * FROM {NAME}").count() == 2


def test_a_table_that_is_not_there_is_named_with_those_that_are(catalog: DeltaCatalog) -> None:
    assert not catalog.exists("silver.nothing")
    with pytest.raises(MissingTableError, match=r"prod has no table silver.nothing yet \(its tables: silver.items\)"):
        catalog.read("silver.nothing")


def test_a_folder_without_a_commit_is_no_table(catalog: DeltaCatalog) -> None:
    (folder(catalog, "silver.unfinished") / "_delta_log").mkdir(parents=True)
    assert catalog.names() == [NAME]
    assert not catalog.exists("silver.unfinished")


def test_replace_is_one_transaction_and_leaves_other_rows_alone(catalog: DeltaCatalog) -> None:
    version = catalog.snapshot(NAME).version
    catalog.replace(NAME, items(("AA2", 7), ("AA3", 70)), Among("item", ["AA2", "AA3"]))
    assert content(catalog) == [("AA1", 5), ("AA2", 7), ("AA3", 70)]
    assert catalog.snapshot(NAME).version == version + 1


def test_replace_by_nothing_deletes_what_the_predicate_names(catalog: DeltaCatalog) -> None:
    catalog.replace(NAME, items(), Among("item", ["AA2"]))
    assert content(catalog) == [("AA1", 5)]


def test_replace_refuses_rows_outside_of_its_predicate(catalog: DeltaCatalog) -> None:
    with pytest.raises(DeltaError, match="1 rows failed validation"):
        catalog.replace(NAME, items(("AA2", 7), ("ZZ9", 0)), Among("item", ["AA2"]))
    assert content(catalog) == [("AA1", 5), ("AA2", 50)]


def test_replace_makes_a_table_that_is_not_there(catalog: DeltaCatalog) -> None:
    catalog.replace("silver.new", items(("AA1", 5)), Among("item", ["AA1"]))
    assert catalog.names() == [NAME, "silver.new"]


def test_replace_twice_is_the_same_as_once(catalog: DeltaCatalog) -> None:
    for _ in range(2):
        catalog.replace(NAME, items(("AA2", 7)), Among("item", ["AA2"]))
    assert content(catalog) == [("AA1", 5), ("AA2", 7)]


def test_upsert_updates_by_key_and_inserts_the_rest(catalog: DeltaCatalog) -> None:
    assert catalog.upsert(NAME, items(("AA2", 7), ("AA3", 70)), ["item"]) == 2
    assert content(catalog) == [("AA1", 5), ("AA2", 7), ("AA3", 70)]
    assert catalog.snapshot(NAME).version == 1


def test_upsert_matches_on_all_keys_together(catalog: DeltaCatalog) -> None:
    catalog.upsert(NAME, items(("AA2", 50), ("AA2", 51)), ["item", "amount"])
    assert content(catalog) == [("AA1", 5), ("AA2", 50), ("AA2", 51)]


def test_upsert_makes_a_table_that_is_not_there(catalog: DeltaCatalog) -> None:
    assert catalog.upsert("silver.new", items(("AA1", 5)), ["item"]) == 1
    assert catalog.read("silver.new").num_rows == 1


def test_an_append_may_bring_a_new_column(catalog: DeltaCatalog) -> None:
    catalog.append(NAME, items(("AA3", 70)).append_column("gate", pa.array(["B4"])))
    gates = {row["item"]: row["gate"] for row in catalog.read(NAME).to_pylist()}
    assert gates == {"AA1": None, "AA2": None, "AA3": "B4"}


def test_concurrent_appends_all_arrive(catalog: DeltaCatalog) -> None:
    def append(number: int) -> None:
        writer = DeltaCatalog(catalog.root, owner="prod", reader="prod")
        writer.append(NAME, items((f"BB{number}", number)))

    numbers = range(12)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(append, numbers))
    assert {row for row in content(catalog) if row[0].startswith("BB")} == {(f"BB{n}", n) for n in numbers}
    assert catalog.snapshot(NAME).version == len(numbers)


def test_what_is_deleted_is_gone_for_good_once_the_table_is_compacted(catalog: DeltaCatalog) -> None:
    assert on_disk(catalog) == {"AA1", "AA2"}
    assert catalog.delete(NAME, Among("item", ["AA2"])) == 1
    assert content(catalog) == [("AA1", 5)]
    catalog.compact(NAME, NOT_AT_ALL)
    assert on_disk(catalog) == {"AA1"}


def test_delete_that_names_no_row_changes_nothing(catalog: DeltaCatalog) -> None:
    assert catalog.delete(NAME, Among("item", ["ZZ9"])) == 0
    assert on_disk(catalog) == {"AA1", "AA2"}


def test_compact_merges_files_and_keeps_rows(catalog: DeltaCatalog) -> None:
    for number in range(4):
        catalog.append(NAME, items((f"BB{number}", number)))
    before = content(catalog)
    catalog.compact(NAME, timedelta(days=1))
    assert content(catalog) == before
    assert len(catalog.snapshot(NAME).files) == 1
    assert len(list(folder(catalog, NAME).glob("*.parquet"))) == 6, "somebody may read them"


def test_compact_deletes_what_no_version_needs_that_is_kept(catalog: DeltaCatalog) -> None:
    for number in range(25):
        catalog.append(NAME, items((f"BB{number}", number)))
    before, log = content(catalog), folder(catalog, NAME) / "_delta_log"
    (folder(catalog, NAME) / "part-of-a-killed-writer.parquet").write_bytes(b"")
    catalog.compact(NAME, NOT_AT_ALL)
    assert content(catalog) == before
    assert len(list(folder(catalog, NAME).glob("*.parquet"))) == 1
    assert len(list(log.glob("*.json"))) < 10 < catalog.snapshot(NAME).version
    catalog.append(NAME, items(("ZZ9", 9)))
    assert content(catalog) == [*before, ("ZZ9", 9)]


def test_an_earlier_version_can_still_be_read(catalog: DeltaCatalog) -> None:
    version = catalog.snapshot(NAME).version
    catalog.replace(NAME, items(), EVERYTHING)
    assert content(catalog) == []
    earlier = DeltaTable(str(folder(catalog, NAME)), version=version).to_pyarrow_table()
    assert sorted(earlier["item"].to_pylist()) == ["AA1", "AA2"]
    assert [commit["version"] for commit in catalog.history(NAME)] == [1, 0]
