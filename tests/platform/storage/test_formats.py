"""The formats of landing files: each gives the same rows as text, tells its bad lines, and is refused when damaged."""

import gzip
import io
import json
import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlplatform.contract import Csv, JsonLines, Parquet, Source
from mlplatform.storage.landing import Delivery, LandedFile, forget, inspect, look

Format = Csv | JsonLines | Parquet
APRIL = datetime(2013, 4, 1)
SOON = timedelta(minutes=10)
ROWS = [{"item": "ä 1", "note": 'a; "b"'}, {"item": "2", "note": "x, y"}]
SUFFIXES: dict[str, Format] = {
    "csv": Csv(),
    "csv.gz": Csv(compression="gzip"),
    "jsonl.zst": JsonLines(compression="zstd"),
}


def table(rows: list[dict[str, Any]]) -> bytes:
    target = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), target)
    return target.getvalue()


def lines(*rows: Any) -> bytes:
    return "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows).encode()


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, "zstd", asbytes=True))


PLAIN = 'item,note\nä 1,"a; ""b"""\n2,"x, y"\n'
PIPED = 'item|note\nä 1|a; "b"\n2|x, y\n'
SINGLE = "item;note\nä 1;'a; \"b\"'\n2;x, y\n"
CONTENTS: dict[str, tuple[Format, bytes]] = {
    "plain": (Csv(), PLAIN.encode()),
    "with a byte order mark": (Csv(), PLAIN.encode("utf-8-sig")),
    "with a mark before quotes": (
        Csv(), '"item","note"\n"ä 1","a; ""b"""\n"2","x, y"\n'.encode("utf-8-sig")
    ),
    "line ends of Windows": (Csv(), PLAIN.replace("\n", "\r\n").encode()),
    "semicolons and single quotes": (Csv(delimiter=";", quote="'"), SINGLE.encode()),
    "no quotes": (Csv(delimiter="|", quote=""), PIPED.encode()),
    "tabs": (Csv(delimiter="\t"), 'item\tnote\nä 1\t"a; ""b"""\n2\tx, y\n'.encode()),
    "latin-1": (Csv(encoding="latin-1"), PLAIN.encode("latin-1")),
    "utf-16": (Csv(encoding="utf-16"), PLAIN.encode("utf-16")),
    "utf-16-be": (Csv(encoding="utf-16-be"), PLAIN.encode("utf-16-be")),
    "gzip": (Csv(compression="gzip"), gzip.compress(PLAIN.encode())),
    "two of gzip in one": (
        Csv(compression="gzip"), gzip.compress(PLAIN.encode()[:20]) + gzip.compress(PLAIN.encode()[20:])
    ),
    "zstd of cp1252": (Csv(encoding="cp1252", compression="zstd"), zstd(PLAIN.encode("cp1252"))),
    "JSON lines": (JsonLines(), lines(*ROWS)),
    "JSON lines without a last line break": (JsonLines(), lines(*ROWS).strip()),
    "JSON lines with a mark, an empty line and Windows' line ends": (
        JsonLines(), b"\xef\xbb\xbf" + lines(ROWS[0], "", ROWS[1]).replace(b"\n", b"\r\n")
    ),
    "JSON lines in gzip": (JsonLines(compression="gzip"), gzip.compress(lines(*ROWS))),
    "Parquet": (Parquet(), table(ROWS)),
}  # fmt: skip


def landed(folder: Path, kind: Format, content: bytes) -> LandedFile:
    path = folder / "items" / f"20130401T000000Z{kind.suffix}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return LandedFile(path, APRIL)


def source(kind: Format, *columns: str) -> Source:
    return Source("items", columns or ("item", "note"), format=kind)


def delivery(folder: Path, kind: Format, content: bytes, *columns: str) -> Delivery:
    found = inspect(landed(folder, kind, content), source(kind, *columns), timedelta())
    assert found is not None
    return found


def rows(found: Delivery) -> list[dict[str, Any]]:
    read = [row for batch in found.batches() for row in batch.to_pylist()]
    assert len(read) == found.rows
    aside = ("source_file", "landed_at", "ingested_at", "source_row", "unexpected")
    return [{name: value for name, value in row.items() if name not in aside} for row in read]


@pytest.mark.parametrize(("kind", "content"), CONTENTS.values(), ids=list(CONTENTS))
def test_each_format_gives_the_rows_that_were_delivered(tmp_path: Path, kind: Format, content: bytes) -> None:
    found = delivery(tmp_path, kind, content)
    assert (found.error, found.bad) == ("", [])
    assert rows(found) == ROWS


@pytest.mark.parametrize(("kind", "content"), CONTENTS.values(), ids=list(CONTENTS))
def test_what_is_forgotten_goes_and_the_rest_stays_in_its_format(tmp_path: Path, kind: Format, content: bytes) -> None:
    file, known = landed(tmp_path, kind, content), source(kind)
    # The header holds a value, too, and stays.
    gone = forget(file, known, lambda text, row: row["item"] == "2" if row else "item" in text, timedelta(), write=True)
    assert gone == 1
    found = inspect(file, known, timedelta())
    assert found is not None
    assert (rows(found), found.bad) == (ROWS[:1], [])
    assert forget(file, known, lambda _, row: False, timedelta(), write=True) == 0


def test_a_source_takes_files_of_its_format_only(tmp_path: Path) -> None:
    (tmp_path / "items").mkdir()
    for suffix in SUFFIXES:
        (tmp_path / "items" / f"20130401T000000Z.{suffix}").write_bytes(b"")
    for suffix, kind in SUFFIXES.items():
        found = look(tmp_path, [source(kind)], APRIL)
        assert [(file.place.name, file.landed_at) for file in found.files["items"]] == [
            (f"20130401T000000Z.{suffix}", APRIL)
        ]
        assert set(found.strangers.values()) == {f"only <name>.{suffix} is taken"}


def test_values_are_written_as_they_were_delivered(tmp_path: Path) -> None:
    text = '{"a": 1.10, "b": 12345678901234567890123, "c": null, "d": true, "e": {"x": [1.5, "ä"]}, "f": "007"}'
    ((row,),) = [batch.to_pylist() for batch in delivery(tmp_path, JsonLines(), lines(text), *"abcd").batches()]
    assert [row[name] for name in "abcd"] == ["1.10", "12345678901234567890123", None, "true"]
    assert json.loads(row["unexpected"]) == {"e": '{"x": [1.5, "\\u00e4"]}', "f": "007"}
    assert row["source_row"] == 1


def test_values_of_parquet_become_text(tmp_path: Path) -> None:
    at = datetime(2013, 4, 1, 12, 0, 0, 5000, tzinfo=UTC)
    values = {
        "whole": 7, "number": 0.1, "money": Decimal("1.10"), "day": at.date(), "zoned": at,
        "naive": at.replace(tzinfo=None), "flag": True, "nothing": None, "list": [1, 2], "struct": {"a": "ä"},
        "bytes": b"\xff\x00",
    }  # fmt: skip
    (row,) = rows(delivery(tmp_path, Parquet(), table([values]), "whole"))
    assert row == {
        "whole": "7", "number": "0.1", "money": "1.10", "day": "2013-04-01", "zoned": "2013-04-01 12:00:00.005000Z",
        "naive": "2013-04-01 12:00:00.005000", "flag": "true", "nothing": None, "list": "[1, 2]",
        "struct": '{"a": "\\u00e4"}', "bytes": "ff00",
    }  # fmt: skip
    in_company = rows(delivery(tmp_path, Parquet(), table([{"a": b"\xc3\xa4"}, {"a": b"\xff"}]), "a"))
    assert [row["a"] for row in in_company] == ["ä", "ff"]


def test_times_of_96_bits_do_not_wrap(tmp_path: Path) -> None:
    """Spark's, for one, unless it is told otherwise; as nanoseconds they end in the year 2262."""
    target, times = io.BytesIO(), [datetime(1, 1, 1), datetime(9999, 12, 31, 0, 0, 0, 5)]
    pq.write_table(pa.table({"a": times}), target, use_deprecated_int96_timestamps=True)
    found = rows(delivery(tmp_path, Parquet(), target.getvalue(), "a"))
    assert [row["a"] for row in found] == ["0001-01-01 00:00:00.000000", "9999-12-31 00:00:00.000005"]


def test_a_line_with_a_long_value_is_forgotten_also_in_a_file_that_a_link_leads_to(tmp_path: Path) -> None:
    text = f"item,note\n1,{'x' * 200_000}\n2,y\n"
    file, elsewhere = landed(tmp_path, Csv(), text.encode()), tmp_path / "elsewhere.csv"
    file.path.rename(elsewhere).chmod(0o640)
    file.path.symlink_to(elsewhere)
    assert forget(file, source(Csv()), lambda _, row: bool(row and row["item"] == "1"), timedelta(), write=True) == 1
    assert elsewhere.read_text(encoding="utf-8") == file.path.read_text(encoding="utf-8") == "item,note\n2,y\n"
    assert elsewhere.stat().st_mode & 0o777 == 0o640


def test_lines_that_are_no_json_object_with_the_columns_are_set_aside(tmp_path: Path) -> None:
    good = {"item": "1", "note": None}
    content = lines(good, '{"item": "2", "no', "[1]", {"item": "3"}, good, '{"item": 1, "item": 2, "note": 3}')
    content += b'{"item": "\xe9", "note": "x"}\n{"item": "\\ud800", "note": "x"}\n' + b"[" * 100_000 + b"\n"
    found = delivery(tmp_path, JsonLines(), content)
    assert len(rows(found)) == 2
    assert [(number, reason.split(":")[0]) for number, reason, _ in found.refused_lines()] == [
        (2, "no JSON"), (3, "no JSON"), (4, "the line lacks note"), (6, "no JSON"), (7, "no JSON"),
        (8, "no JSON"), (9, "no JSON"),
    ]  # fmt: skip
    assert next(text for _, _, text in found.refused_lines()) == '{"item": "2", "no'


def test_a_line_of_json_without_an_end_is_refused_with_the_file(tmp_path: Path) -> None:
    found = delivery(tmp_path, JsonLines(), b'[{"item": "' + b"x" * (9 << 20))
    assert found.error == "line 1 is longer than 8 MB: is it JSON lines?"
    assert found.refused == len(list(found.refused_lines())) == 1


# Lines of 64 bytes: what is read at once ends with a line.
MANY = f"item,note,{'z' * 53}\n" + "".join(f"{number:05},{os.urandom(28).hex()},\n" for number in range(5_000))
PACKED, COLUMNS = gzip.compress(MANY.encode()), table([{"item": str(n), "note": f"n{n}"} for n in range(5_000)])
DAMAGED: dict[str, tuple[Format, bytes, str]] = {
    "half of gzip": (Csv(compression="gzip"), PACKED[: len(PACKED) // 2], "unreadable: no gzip: Truncated"),
    "half of zstd": (Csv(compression="zstd"), zstd(MANY.encode())[:-100], "unreadable: no zstd: Truncated"),
    "a bit of gzip flipped": (
        Csv(compression="gzip"), PACKED[:99999] + b"!!!!" + PACKED[100003:], "unreadable: no gzip: zlib"
    ),
    "no gzip": (Csv(compression="gzip"), MANY.encode(), "unreadable: no gzip: zlib"),
    "gzip that is not declared": (Csv(), PACKED, "unreadable: "),
    "another encoding": (Csv(encoding="ascii"), MANY.replace("item", "ä", 1).encode(), "unreadable: no ascii: 'ascii'"),
    "half a character": (Csv(encoding="utf-16"), MANY.encode("utf-16")[:-1], "unreadable: no utf-16: 'utf-16-le'"),
    "no utf-16": (Csv(encoding="utf-16"), MANY.encode(), "unreadable: no utf-16: UTF-16 stream does not start"),
    "half of Parquet": (Parquet(), COLUMNS[: len(COLUMNS) // 2], "unreadable: "),
    "Parquet without a middle": (Parquet(), COLUMNS[:2000] + bytes(9000) + COLUMNS[11000:], "unreadable: "),
    "no Parquet": (Parquet(), MANY.encode(), "unreadable: "),
    "nothing as Parquet": (Parquet(), b"", "unreadable: "),
    "nothing as gzip": (Csv(compression="gzip"), b"", "the header lacks item, note: it is "),
    "Parquet without a column": (Parquet(), table([{"item": 1}, {"item": 2}]), "the header lacks note: it is item"),
    "Parquet with a column twice": (Parquet(), table([{"item": 1, "Item": 2, "note": 3}]), "the header names a column"),
    "a time in a list that there is not": (
        Parquet(),
        table([{"item": 1, "note": pa.scalar([2**62], pa.list_(pa.timestamp("us")))}]),
        "unreadable: date value",
    ),
    "a name in Parquet that is no text": (
        Parquet(), table(ROWS).replace(b"note", b"no\xff\xfe"), "unreadable: 'utf-8'"
    ),
    "text of Parquet that is none": (
        Parquet(), table([{"item": "aaaa", "note": "zzzz"}]).replace(b"zzzz", b"zz\xe9z"), "unreadable: "
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "content", "reason"), DAMAGED.values(), ids=list(DAMAGED))
def test_a_file_that_is_damaged_is_refused_with_all_its_rows(
    tmp_path: Path, kind: Format, content: bytes, reason: str
) -> None:
    found = delivery(tmp_path, kind, content)
    assert found.error.startswith(reason)
    assert "\n" not in found.error
    assert found.refused == len(list(found.refused_lines())) >= 1
    assert forget(found.file, found.source, lambda text, _: False, timedelta(), write=True) == 0


def test_damage_counts_with_the_rows_that_are_known(tmp_path: Path) -> None:
    for name in ("Parquet without a middle", "another encoding"):
        kind, content, _ = DAMAGED[name]
        assert delivery(tmp_path, kind, content).refused == 5_000
    found = delivery(tmp_path, *DAMAGED["half of gzip"][:2])
    assert 500 < found.refused < 5_000
    lacking = delivery(tmp_path, *DAMAGED["Parquet without a column"][:2])
    assert [text for _, _, text in lacking.refused_lines()] == ["{'item': '1'}", "{'item': '2'}"]


@pytest.mark.parametrize("name", ["half of gzip", "half of zstd", "half of Parquet", "half a character"])
def test_a_file_without_its_end_waits_until_it_rests(tmp_path: Path, name: str) -> None:
    kind, content, reason = DAMAGED[name]
    file = landed(tmp_path, kind, content)
    assert isinstance(file.place, Path)
    assert inspect(file, source(kind), SOON) is None
    old = file.place.stat().st_mtime - 3600
    os.utime(file.place, (old, old))
    found = inspect(file, source(kind), SOON)
    assert found is not None
    assert found.error.startswith(reason)


def test_what_is_unpacked_to_be_read_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unpacked").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "unpacked"))
    found = delivery(tmp_path, Csv(compression="gzip"), PACKED)
    assert not list((tmp_path / "unpacked").iterdir())
    assert len(rows(found)) == 5_000
    assert not list((tmp_path / "unpacked").iterdir())


def test_a_quote_that_swallows_rows_is_found_in_each_dialect(tmp_path: Path) -> None:
    text = "item;note\n" + "".join(f"{number};b{number}\n" for number in range(100)).replace("10;", "10;'", 1)
    found = delivery(tmp_path, Csv(delimiter=";", quote="'", compression="gzip"), gzip.compress(text.encode()))
    assert "quote is not closed" in found.error
    assert found.refused == 100
    assert delivery(tmp_path, Csv(delimiter=";", quote=""), text.encode()).rows == 100


def test_rows_of_many_parts_keep_their_numbers(tmp_path: Path) -> None:
    numbers = [str(number) for number in range(25_000)]
    for kind, content, first in (
        (JsonLines(), lines(*({"item": number} if int(number) % 7 else "no" for number in numbers)), 1),
        (Parquet(), table([{"item": number} for number in numbers]), 1),
        (Csv(encoding="latin-1"), "\n".join(["item", *numbers, ""]).encode(), 2),
    ):
        found = delivery(tmp_path, kind, content, "item")
        read = [row for batch in found.batches() for row in batch.to_pylist()]
        assert len(read) + len(found.bad) == 25_000
        assert all(row["source_row"] == int(row["item"]) + first for row in read)
