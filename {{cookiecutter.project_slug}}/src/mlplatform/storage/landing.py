"""The landing zone: CSV files as sources deliver them, `<landing>/<source>/<time of landing>.csv`.

A file on a disk may be read while it is still being written. An object appears whole.
"""

import hashlib
import io
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from csv import Error as CsvError
from csv import reader
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from mlplatform.errors import UserError
from mlplatform.storage import ops
from mlplatform.storage.address import Place, Remote

PROVENANCE = ("source_file", "source_row", "landed_at", "ingested_at")
NAME_FORMAT = "%Y%m%dT%H%M%SZ"
_BLOCK = 8 << 20  # bytes read at once: no line is longer
_SHOWN = 1000  # characters of a refused line
Goes = Callable[[str, Mapping[str, str] | None], bool]
"""Whether a record goes, by its text and, where it is a row, its values by column."""


class GrowingError(UserError):
    """A file is still being written."""


@dataclass(frozen=True)
class LandedFile:
    """A file in the landing zone and when it landed (naive UTC): its name says so, or else where it lies."""

    place: Place
    landed_at: datetime

    @property
    def name(self) -> str:
        return f"{self.place.parent.name}/{self.place.name}"

    @property
    def path(self) -> Path:
        """The file on this machine: of an object a copy, which is made once and goes when this is gone."""
        return self.place if isinstance(self.place, Path) else Path(self._copy.name, "content")

    @cached_property
    def _copy(self) -> "tempfile.TemporaryDirectory[str]":
        assert isinstance(self.place, Remote)
        folder = tempfile.TemporaryDirectory(prefix="mlplatform-")
        self.place.copy_to(Path(folder.name, "content"))
        return folder


@dataclass
class Delivery:
    """What a file holds. Lines are numbered from 1, the header's; `name` is the source_file of its rows.

    `bad` are the lines that do not fit the header, with reason and text; `error` is why no line can be used at all.
    """

    file: LandedFile
    name: str
    size: int
    modified: datetime  # naive UTC
    digest: str
    complete: int  # bytes up to the last line break: what comes after is no whole line
    lines: int
    rows: int = 0
    bad: list[tuple[int, str, str]] = field(default_factory=list)
    error: str = ""

    @property
    def refused(self) -> int:
        return max(1, self.lines - 1) if self.error else len(self.bad)

    def refused_lines(self) -> Iterator[tuple[int, str, str]]:
        """Every line that is refused: its number, the reason and its text."""
        if not self.error:
            yield from self.bad
            return
        yield from islice(self._text(), 1, None) if self.lines > 1 else self._text()

    def _text(self) -> Iterator[tuple[int, str, str]]:
        with self.file.path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            number = 0
            for number, line in enumerate(lines, 1):
                yield number, self.error, line.rstrip("\r\n")[:_SHOWN]
            if not number:
                yield 0, self.error, ""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows as received, every value text, with their provenance."""
        now = _now()
        for numbers, batch in _parse(self, []):
            provenance = {
                "source_file": pa.repeat(self.name, batch.num_rows),
                "source_row": pa.array(numbers, pa.int64()),
                "landed_at": pa.repeat(pa.scalar(self.file.landed_at, ops.TIME), batch.num_rows),
                "ingested_at": pa.repeat(pa.scalar(now, ops.TIME), batch.num_rows),
            }
            names = [*batch.schema.names, *PROVENANCE]
            yield pa.record_batch([*batch.columns, *provenance.values()], names=names)


@dataclass(frozen=True)
class Landed:
    """What lies in a landing zone: files by source, and by name what is no delivery, with the reason."""

    files: dict[str, list[LandedFile]]
    strangers: dict[str, str]


def look(landing: Place, sources: Iterable[str], until: datetime = datetime.max) -> Landed:
    """What had landed by `until`, oldest first. Names that begin with a dot are passed over: a file may grow there."""
    files: dict[str, list[LandedFile]] = {source: [] for source in sources}
    strangers = {}
    for place in _sorted(landing) if landing.is_dir() else ():
        if place.name.startswith("."):
            continue
        if not (place.is_dir() and place.name in files):
            strangers[_readable(place.name)] = f"no source has this name (sources: {', '.join(files)})"
            continue
        for path in _sorted(place):
            if path.name.startswith("."):
                continue
            if reason := _no_delivery(path):
                strangers[f"{place.name}/{_readable(path.name)}"] = reason
            elif (landed_at := _landed_at(path)) <= until:
                files[place.name].append(LandedFile(path, landed_at))
        files[place.name].sort(key=lambda file: (file.landed_at, file.name))
    return Landed(files, strangers)


@contextmanager
def delivering(landing: Place) -> Iterator[Path]:
    """A folder to deliver into: the landing zone, or a copy of it, whose new files are put there in the end."""
    if isinstance(landing, Path):
        yield landing
        return
    with tempfile.TemporaryDirectory(prefix="mlplatform-") as name:
        folder = Path(name)
        for file in landing.files():
            target = folder / str(file)[len(str(landing)) + 1 :]
            target.parent.mkdir(parents=True, exist_ok=True)
            file.copy_to(target)
        before = {path: _stamp(path) for path in folder.rglob("*")}
        yield folder
        for path in sorted(folder.rglob("*")):
            if path.is_file() and before.get(path) != _stamp(path):
                (landing / path.relative_to(folder).as_posix()).copy_from(path)


def inspect(file: LandedFile, columns: Iterable[str], settle: timedelta, name: str = "") -> Delivery | None:
    """Read a file through, without keeping it; None where it is still being written.

    A file that ends without a line break may be unfinished: it is taken once it has not changed for `settle`, and what
    comes after its last line break is refused. One that lacks any of `columns`, or cannot be read, is refused whole.
    """
    delivery = _scan(file, name or file.name)
    whole = isinstance(file.place, Remote) or (delivery.size and delivery.complete == delivery.size)
    if not whole and _now() - delivery.modified < settle:
        return None
    _check(delivery, columns)
    now = file.place if isinstance(file.place, Path) else file.place.again()
    return delivery if (delivery.size, delivery.modified) == _stamp(now) else None


def changed(file: LandedFile, size: int, modified: datetime, digest: str) -> bool:
    """Whether a file holds something else than when it was of this size, time and digest, or of one without lines that
    have been forgotten since."""
    if (size, modified) == _stamp(file.place):
        return False
    now = _scan(file, "").digest
    return now != digest and not {now, digest} <= set(_same(file))


def forget(file: LandedFile, columns: Iterable[str], goes: Goes, settle: timedelta, *, write: bool) -> int:
    """How many records of a file are to go; with `write` it is put in place without them, whole or not at all.

    Its old and new digest are noted beside it, so that no environment takes it for changed. Raises GrowingError.
    """
    delivery = inspect(file, columns, settle)
    if delivery is None:
        raise GrowingError(f"{file.name} is still being written: try again when it is whole")
    kept, gone = io.StringIO(newline=""), 0
    for number, (text, row) in enumerate(_records(delivery)):
        is_header = not number and not delivery.error
        dropped = not is_header and goes(text, row)
        gone += dropped
        if not dropped:
            kept.write(text)
    if gone and write:
        content = kept.getvalue().encode("utf-8", "surrogateescape")
        digests = [*_same(file), delivery.digest, hashlib.sha256(content).hexdigest()]
        _put(_note(file), json.dumps(list(dict.fromkeys(digests))).encode())
        _put(file.place, content, keep_time=True)
    return gone


def _records(delivery: Delivery) -> Iterator[tuple[str, dict[str, str] | None]]:
    """All of a file, part by part: a row's text and values by column; None for what is no row, the header too."""
    lines = _Lines(delivery, delivery.size, errors="surrogateescape")
    if delivery.error:
        yield from ((line, None) for line in lines)
        return
    header: list[str] = []
    for fields in reader(lines):
        whole = header and len(fields) == len(header)
        yield "".join(lines.taken), dict(zip(header, fields, strict=True)) if whole else None
        header = header or [name.removeprefix("\ufeff") for name in fields]
        lines.taken.clear()


def _same(file: LandedFile) -> list[str]:
    """The digests that a file has had, with lines that have been forgotten since and without them."""
    note = _note(file)
    found = note if isinstance(note, Path) else note.again()
    if not found.is_file():
        return []
    digests: list[str] = json.loads(LandedFile(found, datetime.max).path.read_text(encoding="utf-8"))
    return digests


def _note(file: LandedFile) -> Place:
    return file.place.parent / f".{file.place.name}.forgotten"


def _put(place: Place, content: bytes, *, keep_time: bool = False) -> None:
    """Put a file in place, whole or not at all; with `keep_time`, as old as the one before: it landed then.

    An object's time is the store's.
    """
    if isinstance(place, Remote):
        with tempfile.NamedTemporaryFile(prefix="mlplatform-") as file:
            file.write(content)
            file.flush()
            place.copy_from(Path(file.name))
        return
    unfinished = place.with_name(f".{place.name}.unfinished")
    unfinished.write_bytes(content)
    if keep_time:
        stat = place.stat()
        os.utime(unfinished, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    unfinished.replace(place)


def _check(delivery: Delivery, columns: Iterable[str]) -> None:
    try:
        header = _header(delivery)
        missing = [name for name in columns if name not in header]
        if missing:
            delivery.error = f"the header lacks {', '.join(missing)}: it is {','.join(header)[:200]}"
            return
        breaks = False
        for _, batch in _parse(delivery, delivery.bad):
            delivery.rows += batch.num_rows
            breaks = breaks or any(pc.any(pc.match_substring(column, "\n")).as_py() for column in batch.columns)
        if breaks or any("\n" in text for _, _, text in delivery.bad):
            delivery.error = _swallowed(delivery, len(header))
    except (pa.ArrowInvalid, UnicodeDecodeError, CsvError) as error:
        reason = str(error).splitlines()[0]
        long = "straddling" in reason or "field larger" in reason
        delivery.error = f"unreadable: {'a quote is not closed, or a value is very long' if long else reason}"
    if not delivery.error and delivery.complete < delivery.size:
        with delivery.file.path.open("rb") as file:
            file.seek(delivery.complete)
            tail = file.read(_SHOWN).decode("utf-8", "replace")
        number = delivery.rows + len(delivery.bad) + 2
        delivery.bad.append((number, "the last line has no line break: it may not be whole", tail))
    delivery.bad = [(number, reason, text[:_SHOWN]) for number, reason, text in delivery.bad]


def _swallowed(delivery: Delivery, fields: int) -> str:
    """Why not to trust the quotes of a file in which values hold line breaks, or nothing.

    A value may hold some. Where most of the lines inside of values look like rows, a quote was not closed.
    """
    row = re.compile(rf"[^,]*(,(?! )[^,]*){{{fields - 1}}}")
    end_of_value = re.compile(r'(^|,)[^",][^,]*"(,|$)')
    lines, inside, alike = _Lines(delivery), 0, 0
    for _ in reader(lines):
        for line in lines.taken[1:]:
            inside += 1
            line = line.rstrip("\r\n")
            alike += bool(line and row.fullmatch(line) and not end_of_value.search(line))
        lines.taken.clear()
    unclosed = alike and alike * 2 >= inside
    return f"a quote is not closed: {inside:,} lines are inside of values, most look like rows" if unclosed else ""


class _Lines:
    """The lines of a file, which remembers those that were taken."""

    def __init__(self, delivery: Delivery, size: int | None = None, errors: str = "strict") -> None:
        self._delivery, self._size, self._errors = delivery, size, errors
        self.taken: list[str] = []

    def __iter__(self) -> Iterator[str]:
        with _text(self._delivery, "utf-8", self._size, self._errors) as lines:
            for line in lines:
                self.taken.append(line)
                yield line


def _scan(file: LandedFile, name: str) -> Delivery:
    found, size, complete, lines, (_, modified) = hashlib.sha256(), 0, 0, 0, _stamp(file.place)
    with file.path.open("rb") as content:
        while part := content.read(1 << 20):
            found.update(part)
            lines += part.count(b"\n")
            if b"\n" in part:
                complete = size + part.rindex(b"\n") + 1
            size += len(part)
    return Delivery(file, name, size, modified, found.hexdigest(), complete, lines + (complete < size))


class _Upto(io.FileIO):
    """A file that ends after so many bytes, whatever is added to it meanwhile."""

    def __init__(self, path: Path, size: int) -> None:
        super().__init__(path)
        self._size = size

    def read(self, size: int | None = -1, /) -> bytes:
        left = self._size - self.tell()
        return super().read(left if size is None or size < 0 else min(size, left)) or b""

    def readinto(self, buffer: Any, /) -> int | None:
        return super().readinto(memoryview(buffer)[: self._size - self.tell()])


def _text(delivery: Delivery, encoding: str, size: int | None = None, errors: str = "strict") -> io.TextIOWrapper:
    content = _Upto(delivery.file.path, delivery.complete if size is None else size)
    return io.TextIOWrapper(io.BufferedReader(content), encoding, errors, newline="")


def _parse(delivery: Delivery, bad: list[tuple[int, str, str]]) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
    """The rows batch by batch with the numbers of their lines; lines that do not fit the header are added to `bad`."""

    def set_aside(line: csv.InvalidRow) -> str:
        bad.append(
            (line.number, f"{line.actual_columns} fields where the header has {line.expected_columns}", line.text)
        )
        return "skip"

    with (
        _Upto(delivery.file.path, delivery.complete) as content,
        csv.open_csv(
            pa.PythonFile(content, mode="r"),
            read_options=csv.ReadOptions(use_threads=False, block_size=_BLOCK),
            parse_options=csv.ParseOptions(invalid_row_handler=set_aside, newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types={name: pa.string() for name in _header(delivery)},
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=[""],
            ),
        ) as batches,
    ):
        following = 2
        for batch in batches:
            skipped = [number for number, _, _ in bad if number >= following]
            numbers = np.arange(following, following + batch.num_rows + len(skipped))
            numbers = np.setdiff1d(numbers, skipped)[: batch.num_rows]
            following = int(numbers[-1]) + 1 if batch.num_rows else following
            yield numbers, batch


def _header(delivery: Delivery) -> list[str]:
    """The names in the first line. Raises ArrowInvalid where two columns of Bronze would have one name."""
    with _text(delivery, "utf-8-sig") as lines:
        header = next(reader(lines), [])
    names = Counter(name.lower() for name in (*header, *PROVENANCE))
    again = [name for name, times in names.items() if times > 1]
    if again:
        raise pa.ArrowInvalid(f"the header names a column twice, or as ingest does: {', '.join(again)}")
    return header


def _sorted(folder: Place) -> list[Any]:
    return sorted(folder.iterdir(), key=lambda place: str(place.name))


def _no_delivery(path: Place) -> str:
    """Why a name in the folder of a source is no delivery, or nothing."""
    if isinstance(path, Path) and path.is_symlink() and not path.exists():
        return "a link to nothing"
    if not path.is_file():
        return "a folder" if path.is_dir() else "no regular file"
    return "" if path.suffix == ".csv" and _readable(path.name) == path.name else "only <name>.csv is taken"


def _readable(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "replace")


def _landed_at(path: Place) -> datetime:
    try:
        return datetime.strptime(path.stem, NAME_FORMAT)
    except ValueError:
        return _stamp(path)[1]


def _stamp(path: Place) -> tuple[int, datetime]:
    """The size of a file, and when it was last changed (naive UTC); of an object, when it was listed."""
    if isinstance(path, Remote):
        assert path.size is not None and path.modified is not None
        return path.size, path.modified
    stat = path.stat()
    return stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC).replace(tzinfo=None)


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
