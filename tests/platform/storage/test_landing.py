"""The landing zone: files in the order in which they landed, read as received, bad lines set aside by number."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from mlplatform.contract import Source
from mlplatform.errors import StorageError
from mlplatform.storage.formats import _Csv
from mlplatform.storage.landing import Delivery, LandedFile, forget, inspect, look
from steps import forbidden

APRIL, MAY = datetime(2013, 4, 1), datetime(2013, 5, 1)
SOON = timedelta(minutes=10)
ITEMS = Source("items", ("a",))


def landed(folder: Path, content: str | bytes, name: str = "20130401T000000Z.csv") -> Path:
    path = folder / "items" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def delivery(folder: Path, content: str | bytes, *columns: str, settle: timedelta = timedelta()) -> Delivery:
    found = inspect(LandedFile(landed(folder, content), APRIL), Source("items", columns), settle)
    assert found is not None
    return found


def rows(delivery: Delivery) -> list[dict[str, object]]:
    """The rows as received, by source_row."""
    found = [row for batch in delivery.batches() for row in batch.to_pylist()]
    assert len(found) == delivery.rows
    return [{k: v for k, v in row.items() if k not in ("source_file", "landed_at", "ingested_at")} for row in found]


def test_files_come_in_the_order_in_which_they_landed(tmp_path: Path) -> None:
    for name in ("20130402T000000Z.csv", "20130401T000000Z.csv", "20130401T123000Z.csv"):
        landed(tmp_path, "a\n1\n", name)
    between = datetime(2013, 4, 1, 8, tzinfo=UTC).timestamp()
    os.utime(landed(tmp_path, "a\n1\n", "export.csv"), (between, between))
    files = look(tmp_path, [ITEMS], MAY).files["items"]
    assert [file.name for file in files] == [
        "items/20130401T000000Z.csv",
        "items/export.csv",
        "items/20130401T123000Z.csv",
        "items/20130402T000000Z.csv",
    ]
    assert files[2].landed_at == datetime(2013, 4, 1, 12, 30)


def test_a_file_that_lands_later_is_not_there_yet(tmp_path: Path) -> None:
    for name in ("20130401T000000Z.csv", "20130401T000001Z.csv"):
        landed(tmp_path, "a\n1\n", name)
    assert [file.landed_at for file in look(tmp_path, [ITEMS], APRIL).files["items"]] == [APRIL]


def test_a_name_without_a_time_leaves_it_to_the_file_system(tmp_path: Path) -> None:
    path = landed(tmp_path, "a\n1\n", "export.csv")
    moment = datetime(2013, 4, 1, 8, tzinfo=UTC)
    os.utime(path, (moment.timestamp(), moment.timestamp()))
    (file,) = look(tmp_path, [ITEMS], MAY).files["items"]
    assert file.landed_at == moment.replace(tzinfo=None)


def test_what_is_no_delivery_is_named_with_the_reason(tmp_path: Path) -> None:
    for name in (".20130401T000000Z.csv.unfinished", "a.CSV", "a.xlsx", "b.csv.part", "good.csv"):
        landed(tmp_path, "a\n1\n", name)
    folder = tmp_path / "items"
    (folder / "folder.csv").mkdir()
    (folder / "link.csv").symlink_to(tmp_path / "nowhere")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.csv")).write_text("a\n1\n")
    (tmp_path / "itmes").mkdir()
    (tmp_path / "stray.csv").write_text("a\n1\n")
    found = look(tmp_path, [ITEMS, Source("outcomes", ())], datetime.max)
    assert [file.name for file in found.files["items"]] == ["items/good.csv"]
    assert found.files["outcomes"] == []
    only = "only <name>.csv is taken"
    assert found.strangers == {
        "items/a.CSV": only,
        "items/a.xlsx": only,
        "items/b.csv.part": only,
        "items/caf\N{REPLACEMENT CHARACTER}.csv": only,
        "items/folder.csv": "a folder",
        "items/link.csv": "a link to nothing",
        "itmes": "no source has this name (sources: items, outcomes)",
        "stray.csv": "no source has this name (sources: items, outcomes)",
    }
    assert look(tmp_path / "not there", [ITEMS], MAY).files == {"items": []}


@pytest.mark.parametrize("rights", [{"folders": 0}, {"files": 0}], ids=["the folder", "its files"])
def test_what_may_not_be_read_is_told(tmp_path: Path, rights: dict[str, int]) -> None:
    landed(tmp_path, "a\n1\n")
    with (
        forbidden(tmp_path / "items", **rights),
        pytest.raises(StorageError, match=r"items.*: \[Errno 13\] .*forbid it\. Nothing is lost"),
    ):
        (file,) = look(tmp_path, [ITEMS], MAY).files["items"]
        forget(file, ITEMS, lambda text, _: True, SOON, write=True)


def test_every_value_is_text_as_received(tmp_path: Path) -> None:
    found = delivery(tmp_path, 'clock,number,note\n0005,1.50,\n, 2,"a, ""b"""\n')
    assert rows(found) == [
        {"clock": "0005", "number": "1.50", "note": None, "source_row": 2},
        {"clock": None, "number": " 2", "note": 'a, "b"', "source_row": 3},
    ]
    assert found.refused == 0


def test_a_quoted_empty_text_is_no_missing_value(tmp_path: Path) -> None:
    assert [row["a"] for row in rows(delivery(tmp_path, 'a,b\n"",1\n,1\n'))] == ["", None]


def test_rows_say_where_they_come_from_and_when_they_landed(tmp_path: Path) -> None:
    ((row,),) = [batch.to_pylist() for batch in delivery(tmp_path, "a\n1\n").batches()]
    assert (row["source_file"], row["source_row"], row["landed_at"]) == ("items/20130401T000000Z.csv", 2, APRIL)
    assert row["ingested_at"] > APRIL


def test_a_line_that_does_not_fit_the_header_is_set_aside_and_the_others_keep_their_numbers(tmp_path: Path) -> None:
    found = delivery(tmp_path, "a,b\n1,2\n1,2,3\n4\n5,6\n")
    assert rows(found) == [{"a": "1", "b": "2", "source_row": 2}, {"a": "5", "b": "6", "source_row": 5}]
    assert list(found.refused_lines()) == [
        (3, "3 fields where the header has 2", "1,2,3"),
        (4, "1 fields where the header has 2", "4"),
    ]


def test_no_row_is_lost_or_counted_twice_in_a_file_of_many_parts(tmp_path: Path) -> None:
    pad = "x" * 200
    text = "a,b\n" + "".join(f"{n},{pad}\n" if n % 7 else f"{n},{n},{n}\n" for n in range(100_000))
    found = delivery(tmp_path, text)
    batches = list(found.batches())
    assert len(batches) > 1
    table = pa.Table.from_batches(batches)
    numbers = table["source_row"].to_pylist()
    assert sorted(numbers + [number for number, _, _ in found.bad]) == list(range(2, 100_002))
    assert [int(value) + 2 for value in table["a"].to_pylist()] == numbers


def test_a_value_may_hold_a_line_break(tmp_path: Path) -> None:
    found = delivery(tmp_path, 'a,b\n1,"x\ny"\n2,"Dear all,\nplease, come\n"\n3,z\n')
    assert [row["b"] for row in rows(found)] == ["x\ny", "Dear all,\nplease, come\n", "z"]
    assert found.error == ""


def quoted(*lines: int, column: int = 1) -> str:
    """200 rows of three columns; in some lines a quote stands where a value begins."""
    values = [[f"{n}", f"b{n}", f"c{n}"] for n in range(2, 202)]
    for line in lines:
        values[line - 2][column] = '"' + values[line - 2][column]
    return "a,b,c\n" + "".join(",".join(row) + "\n" for row in values)


@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("lines", [(11,), (11, 190), (11, 12), (2,), (199,), (200,), (5, 60, 70)], ids=str)
def test_a_quote_that_swallows_rows_refuses_the_whole_file(tmp_path: Path, lines: tuple[int, ...], column: int) -> None:
    found = delivery(tmp_path, quoted(*lines, column=column))
    assert "quote is not closed" in found.error
    assert found.refused == 200
    refused = list(found.refused_lines())
    assert [number for number, _, _ in refused] == list(range(2, 202))
    assert refused[0][2].startswith('"2' if lines == (2,) and not column else "2,")


def test_a_quote_that_swallows_a_large_file_refuses_it(tmp_path: Path) -> None:
    text = "a,b\n1,2\n" + '3,"4\n' + f"5,{'x' * 1000}\n" * 20_000
    assert "a quote is not closed" in delivery(tmp_path, text).error


def test_a_quote_inside_a_value_is_a_character(tmp_path: Path) -> None:
    found = delivery(tmp_path, 'a,b\n1,5" pipe\n2,x\n')
    assert [row["b"] for row in rows(found)] == ['5" pipe', "x"]


def test_a_file_with_a_header_only_has_no_rows(tmp_path: Path) -> None:
    found = delivery(tmp_path, "a,b\n", "a", "b")
    assert (found.rows, found.refused, list(found.batches())) == (0, 0, [])


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", bytes(range(256)) * 40, b"\x00\x01\x02\x03\n", b"a,b\n1,caf\xe9\n", b"a,b"],
    ids=["empty", "blank", "binary", "zeros", "not UTF-8", "no line break"],
)
def test_a_file_that_is_no_table_is_refused_with_all_its_lines(tmp_path: Path, content: bytes) -> None:
    found = delivery(tmp_path, content, "a", "b")
    assert found.error
    assert found.refused == len(list(found.refused_lines())) >= 1


@pytest.mark.parametrize("header", ["a,b,a", "a,A", "a,source_file", "Landed_At,b"])
def test_a_header_that_would_name_two_columns_alike_is_refused(tmp_path: Path, header: str) -> None:
    assert "the header names a column twice" in delivery(tmp_path, f"{header}\n{header}\n").error


def test_a_file_that_lacks_a_column_that_the_sql_needs_is_refused(tmp_path: Path) -> None:
    assert delivery(tmp_path, "b,more,a\n1,2,3\n", "a", "b").error == ""
    found = delivery(tmp_path, "a;b\n1;2\n3;4\n", "a", "b")
    assert found.error == "the header lacks a, b: it is a;b"
    assert [text for _, _, text in found.refused_lines()] == ["1;2", "3;4"]


def test_a_file_without_a_last_line_break_waits_until_it_rests_and_its_last_line_is_refused(tmp_path: Path) -> None:
    file = landed(tmp_path, "a,b\n1,2\n3,2013-04-0")
    assert inspect(LandedFile(file, APRIL), ITEMS, SOON) is None
    long_ago = file.stat().st_mtime - 3600
    os.utime(file, (long_ago, long_ago))
    found = inspect(LandedFile(file, APRIL), ITEMS, SOON)
    assert found is not None
    assert [row["a"] for row in rows(found)] == ["1"]
    assert list(found.refused_lines()) == [(3, "the last line has no line break: it may not be whole", "3,2013-04-0")]


def test_a_file_that_grows_while_it_is_read_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = landed(tmp_path, "a\n1\n")
    check = _Csv.check

    def grow(*arguments: object) -> int:
        with file.open("a") as more:
            more.write("2\n")
        return check(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(_Csv, "check", grow)
        assert inspect(LandedFile(file, APRIL), ITEMS, SOON) is None
    found = inspect(LandedFile(file, APRIL), ITEMS, SOON)
    assert found is not None
    assert found.rows == 2
