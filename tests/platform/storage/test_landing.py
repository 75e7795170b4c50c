"""The landing zone: files in the order in which they landed, read as received, bad lines set aside by number."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from mlplatform.storage.landing import (
    LandedFile,
    Lines,
    UnreadableFileError,
    landed_files,
    missing_columns,
    read,
)

APRIL = datetime(2013, 4, 1)


def landed(folder: Path, content: str | bytes, name: str = "20130401T000000Z.csv") -> Path:
    path = folder / "items" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(folder: Path, content: str | bytes) -> Lines:
    return read(LandedFile(landed(folder, content), APRIL))


def rows(lines: Lines) -> list[dict[str, object]]:
    """The rows as received, by source_row."""
    kept = [name for name in lines.rows.column_names if name not in ("source_file", "landed_at", "ingested_at")]
    return [dict(row) for row in lines.rows.select(kept).to_pylist()]


def test_files_come_in_the_order_in_which_they_landed(tmp_path: Path) -> None:
    for name in ("20130402T000000Z.csv", "20130401T000000Z.csv", "20130401T123000Z.csv"):
        landed(tmp_path, "a\n1\n", name)
    files = landed_files(tmp_path, "items", datetime(2013, 5, 1))
    assert [file.name for file in files] == [
        "items/20130401T000000Z.csv",
        "items/20130401T123000Z.csv",
        "items/20130402T000000Z.csv",
    ]
    assert files[1].landed_at == datetime(2013, 4, 1, 12, 30)


def test_a_file_that_lands_later_is_not_there_yet(tmp_path: Path) -> None:
    for name in ("20130401T000000Z.csv", "20130401T000001Z.csv"):
        landed(tmp_path, "a\n1\n", name)
    assert [file.landed_at for file in landed_files(tmp_path, "items", APRIL)] == [APRIL]


def test_a_name_without_a_time_leaves_it_to_the_file_system(tmp_path: Path) -> None:
    path = landed(tmp_path, "a\n1\n", "export.csv")
    moment = datetime(2013, 4, 1, 8, tzinfo=UTC)
    os.utime(path, (moment.timestamp(), moment.timestamp()))
    (file,) = landed_files(tmp_path, "items", datetime(2013, 5, 1))
    assert file.landed_at == moment.replace(tzinfo=None)


def test_other_sources_and_unfinished_files_are_passed_over(tmp_path: Path) -> None:
    landed(tmp_path, "a\n1\n", ".20130401T000000Z.csv.unfinished")
    landed(tmp_path, "a\n1\n", "20130401T000000Z.csv.part")
    assert landed_files(tmp_path, "items", datetime(2013, 5, 1)) == []
    assert landed_files(tmp_path, "outcomes", datetime(2013, 5, 1)) == []


def test_every_value_is_text_as_received(tmp_path: Path) -> None:
    read = lines(tmp_path, 'clock,number,note\n0005,1.50,\n, 2,"a, ""b"""\n')
    assert rows(read) == [
        {"clock": "0005", "number": "1.50", "note": None, "source_row": 2},
        {"clock": None, "number": " 2", "note": 'a, "b"', "source_row": 3},
    ]
    assert read.malformed == []


def test_a_quoted_empty_text_is_no_missing_value(tmp_path: Path) -> None:
    assert [row["a"] for row in rows(lines(tmp_path, 'a,b\n"",1\n,1\n'))] == ["", None]


def test_rows_say_where_they_come_from_and_when_they_landed(tmp_path: Path) -> None:
    (row,) = lines(tmp_path, "a\n1\n").rows.to_pylist()
    assert (row["source_file"], row["source_row"], row["landed_at"]) == ("items/20130401T000000Z.csv", 2, APRIL)
    assert row["ingested_at"] > APRIL


def test_a_line_that_does_not_fit_the_header_is_set_aside_and_the_others_keep_their_numbers(tmp_path: Path) -> None:
    read = lines(tmp_path, "a,b\n1,2\n1,2,3\n4\n5,6\n")
    assert rows(read) == [{"a": "1", "b": "2", "source_row": 2}, {"a": "5", "b": "6", "source_row": 5}]
    assert read.malformed == [
        (3, "3 fields where the header has 2", "1,2,3"),
        (4, "1 fields where the header has 2", "4"),
    ]


def test_no_row_is_lost_or_counted_twice(tmp_path: Path) -> None:
    text = "a,b\n" + "".join(f"{n},{n}\n" if n % 7 else f"{n},{n},{n}\n" for n in range(5000))
    read = lines(tmp_path, text)
    numbers = read.rows["source_row"].to_pylist() + [number for number, _, _ in read.malformed]
    assert sorted(numbers) == list(range(2, 5002))
    assert all(int(str(row["a"])) + 2 == row["source_row"] for row in rows(read))


def test_a_value_may_hold_a_line_break(tmp_path: Path) -> None:
    assert rows(lines(tmp_path, 'a,b\n1,"x\ny"\n2,z\n')) == [
        {"a": "1", "b": "x\ny", "source_row": 2},
        {"a": "2", "b": "z", "source_row": 3},
    ]


def test_a_file_with_a_header_only_has_no_rows(tmp_path: Path) -> None:
    read = lines(tmp_path, "a,b\n")
    assert read.rows.num_rows == 0
    assert read.rows.column_names[:2] == ["a", "b"]


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", bytes(range(256)) * 40, b"\x00\x01\x02\x03", b"a,b\n1,caf\xe9\n"],
    ids=["empty", "blank", "binary", "zeros", "not UTF-8"],
)
def test_a_file_that_is_no_table_is_unreadable(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnreadableFileError, match=r"\w+"):
        lines(tmp_path, content)


@pytest.mark.parametrize("header", ["a,b,a", "a,A", "a,source_file", "Landed_At,b"])
def test_a_header_that_would_name_two_columns_alike_is_unreadable(tmp_path: Path, header: str) -> None:
    with pytest.raises(UnreadableFileError, match="the header names a column twice"):
        lines(tmp_path, f"{header}\n{header}\n")


def test_missing_columns_are_named(tmp_path: Path) -> None:
    file = LandedFile(landed(tmp_path, "a,b\n1,2\n"), APRIL)
    assert missing_columns(file, read(file).rows, ["a", "b", "source_row"]) == ""
    lacking = missing_columns(file, read(file).rows, ["a", "c", "d"])
    assert lacking == "items/20130401T000000Z.csv lacks the columns c, d"
    assert missing_columns(file, pa.table({"a": []}), []) == ""
