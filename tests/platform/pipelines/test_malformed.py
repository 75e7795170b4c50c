"""A campaign of malformed deliveries: whatever a source sends, in whatever format, each row is in Silver or in
quarantine, nothing ends in a traceback, and a good delivery after it is read.

A case is a format, a kind of accident and a seed, which says where it strikes.
"""

import csv
import gzip
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlplatform.contract import Csv, Database, JsonLines, Parquet
from mlplatform.environment import Environment
from mlplatform.errors import ContractError
from mlplatform.pipelines.ingest import ingest
from mlplatform.storage.landing import NAME_FORMAT
from mlplatform.storage.ops import FILES
from steps import overlay, read
from tiny.project import PROJECT

LoadEnv = Callable[..., Environment]
Format = Csv | JsonLines | Parquet
Row = dict[str, str | None]
START, DAY = datetime(2025, 1, 10), timedelta(days=1)
ROWS = 40

FORMATS: dict[str, Format] = {
    "csv": Csv(),
    "csv of latin-1 with semicolons": Csv(delimiter=";", quote="'", encoding="latin-1"),
    "csv of utf-16 in gzip": Csv(encoding="utf-16", compression="gzip"),
    "csv without quotes": Csv(delimiter="\t", quote=""),
    "jsonl": JsonLines(),
    "jsonl in zstd": JsonLines(compression="zstd"),
    "parquet": Parquet(),
}


def good(begin: int) -> list[Row]:
    """Rows of items that keep every contract."""
    return [
        {
            "item_id": f"item-{number:06d}",
            "kind": "abc"[number % 3],
            "amount": f"{number % 100}.5",
            "published_at": f"2025-01-0{number % 9 + 1}T06:00:00Z",
        }
        for number in range(begin, begin + ROWS)
    ]


def lines(rows: list[Row], kind: Csv | JsonLines) -> list[str]:
    """The rows as lines of a text."""
    if isinstance(kind, JsonLines):
        return [json.dumps(row) for row in rows]
    text = io.StringIO(newline="")
    quoting: Any = csv.QUOTE_MINIMAL if kind.quote else csv.QUOTE_NONE
    writer = csv.writer(
        text, delimiter=kind.delimiter, quotechar=kind.quote or None, quoting=quoting, lineterminator="\n"
    )
    header = list(dict.fromkeys(name for row in rows for name in row))
    writer.writerows([header, *([row.get(name) for name in header] for row in rows)])
    return text.getvalue().removesuffix("\n").split("\n")


def packed(text: str, kind: Csv | JsonLines) -> bytes:
    content = text.encode(kind.encoding if isinstance(kind, Csv) else "utf-8", "replace")
    pack: dict[str, Callable[[bytes], bytes]] = {"none": bytes, "gzip": gzip.compress, "zstd": zstd}
    return pack[kind.compression](content)


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, "zstd", asbytes=True))


def written(rows: list[Row], kind: Format) -> bytes:
    if not isinstance(kind, Parquet):
        return packed("".join(f"{line}\n" for line in lines(rows, kind)), kind)
    target = io.BytesIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), target)
    return target.getvalue()


@dataclass
class Case:
    """A delivery, spoiled: its content, the numbers of the rows that were touched (None: any may be), and how many
    rows it has, where that can be known."""

    content: bytes
    touched: set[int] | None
    rows: int | None


# Accidents of values: the file is well-formed, in every format.
def a_value(column: str, value: str) -> Callable[[list[Row], int], list[Row]]:
    return lambda rows, at: [row | ({column: value} if number == at else {}) for number, row in enumerate(rows)]


VALUES: dict[str, Callable[[list[Row], int], list[Row]]] = {
    "a number with a comma": a_value("amount", "1,5"),
    "a number with a unit": a_value("amount", "5 EUR"),
    "no number": a_value("amount", "NaN"),
    "an infinite number": a_value("amount", "-Infinity"),
    "a zone by name": a_value("published_at", "2025-01-03 06:00 Europe/Berlin"),
    "an offset": a_value("published_at", "2025-01-03T06:00:00+14:00"),
    "a time that there is not": a_value("published_at", "2025-02-30T25:61:00Z"),
    "the end of time": a_value("published_at", "infinity"),
    "a zero byte": a_value("kind", "a\0b"),
    "a huge value": a_value("kind", "x" * 3_000_000),
    "a control character": a_value("kind", "\x1a\x0b\x7f"),
    "a right-to-left mark": a_value("kind", "\u202ea\ufeff"),
    "SQL": a_value("kind", "'; DROP TABLE items; --"),
    "an empty key": a_value("item_id", ""),
    "a key twice": lambda rows, at: [*rows, rows[at]],
    "every row twice": lambda rows, at: [*rows, *rows],
    "no rows": lambda rows, at: [],
    "an extra column": lambda rows, at: [row | {"note": "x"} for row in rows],
    "a column of the platform's": lambda rows, at: [row | {"source_row": "1"} for row in rows],
    "another column of the platform's": lambda rows, at: [row | {"_Reason": "1", "_nth": "2"} for row in rows],
    "a column in capitals, too": lambda rows, at: [row | {"AMOUNT": "1"} for row in rows],
    "a column without a name": lambda rows, at: [row | {"": "1"} for row in rows],
    "a column that is missing": lambda rows, at: [{k: v for k, v in row.items() if k != "amount"} for row in rows],
    "a column misspelt": lambda rows, at: [{k.replace("kind", " kind"): v for k, v in row.items()} for row in rows],
    "a hundred columns more": lambda rows, at: [row | {f"c{n}": "1" for n in range(100)} for row in rows],
}


def insert(line: str) -> Callable[[list[str], int], list[str]]:
    return lambda text, at: [*text[:at], line, *text[at:]]


def change(what: Callable[[str], str]) -> Callable[[list[str], int], list[str]]:
    return lambda text, at: [*text[:at], what(text[at]), *text[at + 1 :]]


# Accidents of lines, of text.
TEXTS: dict[str, Callable[[list[str], int], list[str]]] = {
    "a quote that opens": change(lambda line: line.replace("item", '"item', 1)),
    "a single quote that opens": change(lambda line: line.replace("item", "'item", 1)),
    "a quote inside": change(lambda line: line.replace("item", 'it"em', 1)),
    "a field too many": change(lambda line: f"{line};x\tx,x"),
    "half a line": change(lambda line: line[: len(line) // 2]),
    "a backslash at the end": change(lambda line: f"{line}\\"),
    "a byte order mark inside": change(lambda line: f"\ufeff{line}"),
    "an empty line": insert(""),
    "a line of blanks": insert("   "),
    "a line of delimiters": insert(",;\t,;\t"),
    "the header again": lambda text, at: [*text[:at], text[0], *text[at:]],
    "a footer of the database": lambda text, at: [*text, "(40 rows affected)"],
    "a comment above": lambda text, at: ["# exported by night", *text],
    "no header": lambda text, at: text[1:],
    "an array": lambda text, at: ["[", *(f"{line}," for line in text), "]"],
    "a page of an error": lambda text, at: ["<html><body>", "<h1>502 Bad Gateway</h1>", "</body></html>"],
}

# Accidents of bytes, in every format.
BYTES: dict[str, Callable[[bytes, int, Format], bytes]] = {
    "nothing": lambda content, at, kind: b"",
    "one byte": lambda content, at, kind: content[:1],
    "half of it": lambda content, at, kind: content[: len(content) // 2],
    "all but the end": lambda content, at, kind: content[:-3],
    "without its beginning": lambda content, at, kind: content[7:],
    "twice": lambda content, at, kind: content * 2,
    "zeros inside": lambda content, at, kind: content[: at * 9] + bytes(64) + content[at * 9 :],
    "zeros at the end": lambda content, at, kind: content + bytes(4096),
    "bytes flipped": lambda content, at, kind: content[: at * 9] + b"\xff\xfe\x00\xd8" + content[at * 9 + 4 :],
    "noise": lambda content, at, kind: Random(at).randbytes(len(content)),
    "another compression": lambda content, at, kind: zstd(gzip.compress(content)),
    "line ends of old Macs": lambda content, at, kind: packed(
        written(good(at), Csv()).decode().replace("\n", "\r"), kind if not isinstance(kind, Parquet) else Csv()
    ),
    "UTF-32": lambda content, at, kind: "\n".join(lines(good(at), Csv())).encode("utf-32"),
    "another encoding": lambda content, at, kind: packed("item_id\tkind\ta\u0308\u2028\n", Csv(encoding="utf-16")) * at,
    "another format": lambda content, at, kind: written(
        good(at), JsonLines() if isinstance(kind, Csv) else Csv(compression="gzip")
    ),
}

COMBINATIONS = [
    (name, accident)
    for name, accident in product(FORMATS, [*VALUES, *TEXTS, *BYTES])
    if not (isinstance(FORMATS[name], Parquet) and accident in TEXTS)
]
Random(1).shuffle(COMBINATIONS)
SAMPLE = 8
CASES = [
    pytest.param(
        *combination, seed, id=f"{', '.join(combination)}", marks=[pytest.mark.nightly] if seed >= SAMPLE else []
    )
    for seed, combination in enumerate(COMBINATIONS)
]


def spoil(kind: Format, accident: str, seed: int, rows: list[Row]) -> Case:
    at = Random(seed).randrange(2, ROWS - 1)
    if accident in VALUES:
        spoiled = VALUES[accident](rows, at)
        return Case(written(spoiled, kind), {n for n, row in enumerate(rows) if row not in spoiled}, len(spoiled))
    if accident in TEXTS:
        assert not isinstance(kind, Parquet)
        header, text = isinstance(kind, Csv), lines(rows, kind)
        spoiled_text = TEXTS[accident](text, at)
        touched = {number for number, line in enumerate(text[header:]) if line not in spoiled_text}
        full = [line for line in spoiled_text if (line if header else line.strip())]
        return Case(packed("".join(f"{line}\n" for line in spoiled_text), kind), touched, len(full) - header)
    content = BYTES[accident](written(rows, kind), at, kind)
    plain = kind == JsonLines() or (kind == Csv() and accident != "line ends of old Macs")
    there = [line for line in content.split(b"\n") if line.strip()]
    return Case(content, None, max(0, len(there) - (kind == Csv())) if plain else None)


@pytest.mark.parametrize(("name", "accident", "seed"), CASES)
def test_a_malformed_delivery_has_a_clear_end(
    blank: Path, load_env: LoadEnv, name: str, accident: str, seed: int
) -> None:
    kind, rows = FORMATS[name], good(0)
    case = spoil(kind, accident, seed, rows)
    sources = tuple(replace(source, format=kind) for source in PROJECT.sources)
    tolerance = overlay(blank, "tolerant", {"lakehouse": {"max_refused_share": 1.0}})
    strict, tolerant = (
        Environment("prod", replace(PROJECT, sources=sources), blank, load_env("prod", blank, *overlays).config)
        for overlays in ((), (tolerance,))
    )
    file = deliver(strict, START, case.content)

    try:
        ingest(strict, START)
    except ContractError as error:
        assert "lakehouse.max_refused_share" in str(error)
        assert read(strict, "silver.items").height == 0
    ingest(tolerant, START)
    (entry,) = read(strict, FILES).to_dicts()
    silver, refused = read(strict, "silver.items"), read(strict, "quarantine.items")
    total = silver.height + refused.height
    assert total == entry["rows"] + entry["malformed"]
    assert all(row["reason"] for row in refused.to_dicts())
    if case.rows is not None:
        assert total == case.rows or (entry["error"] and total >= max(1, case.rows))
    if case.touched is not None and not entry["error"]:
        known = {(row["item_id"], row["kind"], row["amount"]) for row in silver.to_dicts()}
        whole = {number: (r["item_id"], r["kind"], float(str(r["amount"]))) for number, r in enumerate(rows)}
        assert {whole[number] for number in whole.keys() - case.touched} <= known

    assert ingest(tolerant, START + DAY / 2).written == {}
    deliver(strict, START + DAY, written(good(1000), kind))
    ingest(strict, START + DAY)
    assert read(strict, "silver.items").height == silver.height + ROWS
    assert file.read_bytes() == case.content


def deliver(env: Environment, at: datetime, content: bytes) -> Path:
    """Put a file into the landing zone that nobody writes any more."""
    kind = env.project.sources[0].format
    assert not isinstance(kind, Database)
    path = Path(env.landing, "items", f"{at:{NAME_FORMAT}}{kind.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (0, 0))
    return path


def test_the_campaign_has_200_deliveries_and_the_sample_several_formats() -> None:
    assert len(CASES) >= 200
    assert len({name for name, _ in COMBINATIONS[:SAMPLE]}) >= 4
