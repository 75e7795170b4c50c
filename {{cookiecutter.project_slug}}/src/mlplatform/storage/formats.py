"""The formats of landing files: how their rows become text, and which lines do not."""

import codecs
import io
import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from csv import QUOTE_MINIMAL, QUOTE_NONE, field_size_limit, reader
from csv import Error as CsvError
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from mlplatform.contract import Csv, JsonLines, Parquet, Source
from mlplatform.errors import UserError
from mlplatform.storage.address import temporary, told

PROVENANCE = ("source_file", "source_row", "landed_at", "ingested_at")
REST = "unexpected"  # the column of Bronze with the fields of JSON that the source does not declare, as JSON
UNREADABLE = "unreadable: "
_BLOCK = 8 << 20  # bytes read at once: no line is longer
_PART = 10_000  # rows
_BUFFER = 1 << 20  # bytes of a column of Parquet
# What reading damaged Parquet raises; names may be no text, times inside of lists none that Python has.
_DAMAGE = (pa.ArrowException, OSError, ValueError, OverflowError)
Bad = list[tuple[int, str, str]]
"""Lines that do not fit: number, reason and text."""
Values = Mapping[str, str | None]
Goes = Callable[[str, Values | None], bool]
"""Whether a record goes, by its text and, where it is a row, its values by column."""
Rows = Iterator[tuple[np.ndarray, pa.RecordBatch]]
"""Rows, every value text, with the numbers of their lines."""

field_size_limit(_BLOCK)  # Python's own is shorter than the values that Arrow reads


class UnusableError(UserError):
    """Why no line of a file can be used."""


class Content(ABC):
    """What a file holds, up to the size that it had. `lines` is their number, as far as it can be known, `header` how
    many of them are no rows; `whole` says whether it ends as a finished file does. `names` are those of its columns,
    once it has been checked."""

    lines = 0
    header = 0
    whole: bool
    names: Sequence[str]
    _wrong = ""  # why nothing of it can be read

    def check(self, columns: Iterable[str], bad: Bad) -> int:
        """Read all of it; returns the number of rows, and adds to `bad`. Raises UnusableError."""
        if self._wrong:
            raise UnusableError(f"{UNREADABLE}{self._wrong}")
        return self._check(columns, bad)

    @abstractmethod
    def _check(self, columns: Iterable[str], bad: Bad) -> int: ...

    @abstractmethod
    def rows(self, bad: Bad) -> Rows: ...

    @abstractmethod
    def texts(self) -> Iterator[tuple[int, str]]:
        """Every line, its header's too, with its number; as well as it can be read."""

    @abstractmethod
    def without(self, goes: Goes, *, usable: bool) -> tuple[bytes, int]:
        """The file without the records that go, by their text and, where they are rows, their values; and how many."""


def open_content(source: Source, path: Path, size: int) -> Content:
    """The content of a file on this machine, up to its size when it was scanned."""
    kinds: dict[type, Callable[[Source, Path, int], Content]] = {Csv: _Csv, JsonLines: _JsonLines, Parquet: _Parquet}
    return kinds[type(source.format)](source, path, size)


class _Text(Content):
    """A file of lines, as UTF-8: what is compressed, or in another encoding, is unpacked into a temporary file."""

    def __init__(self, source: Source, path: Path, size: int) -> None:
        assert isinstance(source.format, Csv | JsonLines)
        self._columns, self._path, self._size = source.columns, path, size
        self._compression, self._encoding = source.format.compression, getattr(source.format, "encoding", "utf-8")
        cut = False
        self._packed = self._compression != "none" or codecs.lookup(self._encoding).name not in ("utf-8", "utf-8-sig")
        if self._packed:
            self._folder = temporary()
            self._path = Path(self._folder.name, "text")
            cut = self._unpack(path)
            self._size = self._path.stat().st_size
        self._complete, position = 0, 0  # bytes up to the last line break
        with self._open() as content:
            while part := content.read(1 << 20):
                self.lines += part.count(b"\n")
                if b"\n" in part:
                    self._complete = position + part.rindex(b"\n") + 1
                position += len(part)
        self.lines += self._complete < self._size
        self.whole = not cut and 0 < self._complete == self._size

    def _unpack(self, path: Path) -> bool:
        """Write the text as UTF-8, as well as it can be read; what is wrong is noted. Whether its end is missing."""
        decoder = codecs.getincrementaldecoder(self._encoding)()
        with _Upto(path, self._size) as raw, self._path.open("wb") as target:
            content: Any = raw
            if self._compression != "none":
                content = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), self._compression)
            part = b"-"
            while part:
                try:
                    part = content.read(1 << 16)
                except OSError as error:
                    if error.errno:
                        raise
                    self._wrong, part = f"no {self._compression}: {error}", b""
                try:
                    text = decoder.decode(part, final=not part)
                except UnicodeError as error:
                    self._wrong = self._wrong or f"no {self._encoding}: {error}"
                    if "BOM" in str(error):  # of UTF-16 or -32: there is no reading it
                        decoder = codecs.getincrementaldecoder("utf-8")()
                    decoder.errors = "replace"
                    text = decoder.decode(part, final=not part)
                with told(str(self._path)):
                    target.write(text.encode("utf-8", "replace"))
        return "Truncated" in self._wrong

    def _pack(self, text: str) -> bytes:
        if not self._packed:
            return text.encode("utf-8", "surrogateescape")
        content = text.encode(self._encoding, "replace")
        return content if self._compression == "none" else pa.compress(content, self._compression, asbytes=True)

    def _open(self, size: int | None = None) -> io.BufferedReader:
        return io.BufferedReader(_Upto(self._path, self._size if size is None else size))

    def texts(self) -> Iterator[tuple[int, str]]:
        number, begins = 0, True
        with io.TextIOWrapper(self._open(), "utf-8", "replace", newline="\n") as lines:
            while line := lines.readline(_BLOCK):
                number += begins
                if begins:
                    yield number, line.rstrip("\r\n")
                begins = line.endswith("\n")

    def without(self, goes: Goes, *, usable: bool) -> tuple[bytes, int]:
        kept, gone = io.StringIO(newline=""), 0
        for number, (text, row) in enumerate(self._records(usable)):
            stays = usable and number < self.header
            if not stays and goes(text, row):
                gone += 1
            else:
                kept.write(text)
        return self._pack(kept.getvalue()), gone

    def _records(self, usable: bool) -> Iterator[tuple[str, Values | None]]:
        """All of a file, part by part: a row's text and values by column; None for what is no row, the header too."""
        yield from ((line, None) for line in _Lines(self._open(), errors="surrogateescape"))


class _Csv(_Text):
    header = 1

    def __init__(self, source: Source, path: Path, size: int) -> None:
        super().__init__(source, path, size)
        assert isinstance(source.format, Csv)
        self._delimiter, self._quote = source.format.delimiter, source.format.quote
        quoting: Any = QUOTE_MINIMAL if self._quote else QUOTE_NONE
        self._reader: Any = partial(reader, delimiter=self._delimiter, quotechar=self._quote or None, quoting=quoting)

    def _check(self, columns: Iterable[str], bad: Bad) -> int:
        rows, breaks = 0, False
        try:
            names = self.names = self._names()
            _refuse_lacking(columns, names)
            for _, batch in self.rows(bad):
                rows += batch.num_rows
                breaks = breaks or any(pc.any(pc.match_substring(column, "\n")).as_py() for column in batch.columns)
            if breaks or any("\n" in text for _, _, text in bad):
                self._refuse_swallowed(len(names))
        except (pa.ArrowInvalid, UnicodeDecodeError, CsvError) as error:
            reason = str(error).splitlines()[0]
            long = "straddling" in reason or "field larger" in reason
            raise UnusableError(f"{UNREADABLE}{_UNCLOSED if long else reason}") from error
        if self._complete < self._size:
            with self._open() as file:
                file.seek(self._complete)
                tail = file.read(_BLOCK).decode("utf-8", "replace")
            bad.append((rows + len(bad) + 2, "the last line has no line break: it may not be whole", tail))
        return rows

    def rows(self, bad: Bad) -> Rows:
        def set_aside(line: csv.InvalidRow) -> str:
            bad.append(
                (line.number, f"{line.actual_columns} fields where the header has {line.expected_columns}", line.text)
            )
            return "skip"

        with (
            self._open(self._complete) as content,
            csv.open_csv(
                pa.PythonFile(content, mode="r"),
                read_options=csv.ReadOptions(use_threads=False, block_size=_BLOCK),
                parse_options=csv.ParseOptions(
                    delimiter=self._delimiter,
                    quote_char=self._quote or False,
                    invalid_row_handler=set_aside,
                    newlines_in_values=True,
                ),
                convert_options=csv.ConvertOptions(
                    column_types={name: pa.string() for name in self._names()},
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

    def _records(self, usable: bool) -> Iterator[tuple[str, Values | None]]:
        if not usable:
            yield from super()._records(usable)
            return
        lines, header = _Lines(self._open(), errors="surrogateescape"), list[str]()
        for fields in self._reader(lines):
            whole = header and len(fields) == len(header)
            yield "".join(lines.taken), dict(zip(header, fields, strict=True)) if whole else None
            header = header or fields
            lines.taken.clear()

    def _names(self) -> list[str]:
        """The names in the first line. Raises UnusableError where two columns of Bronze would have one name."""
        with io.TextIOWrapper(self._open(self._complete), "utf-8-sig", newline="") as lines:
            header: list[str] = next(self._reader(lines), [])
        _refuse_doubles(header)
        return header

    def _refuse_swallowed(self, fields: int) -> None:
        """Do not trust the quotes of a file in which values hold line breaks that look like rows.

        A value may hold some. Where most of the lines inside of values look like rows, a quote was not closed.
        """
        between, quote = re.escape(self._delimiter), re.escape(self._quote)
        row = re.compile(rf"[^{between}]*({between}(?! )[^{between}]*){{{fields - 1}}}")
        end_of_value = re.compile(rf"(^|{between})[^{quote}{between}][^{between}]*{quote}({between}|$)")
        lines, inside, alike = _Lines(self._open(self._complete)), 0, 0
        for _ in self._reader(lines):
            for line in lines.taken[1:]:
                inside += 1
                line = line.rstrip("\r\n")
                alike += bool(line and row.fullmatch(line) and not end_of_value.search(line))
            lines.taken.clear()
        if alike and alike * 2 >= inside:
            raise UnusableError(f"a quote is not closed: {inside:,} lines are inside of values, most look like rows")


class _JsonLines(_Text):
    def __init__(self, source: Source, path: Path, size: int) -> None:
        super().__init__(source, path, size)
        self.names = (*source.columns, REST)

    def _check(self, columns: Iterable[str], bad: Bad) -> int:
        return sum(batch.num_rows for _, batch in self.rows(bad))

    def rows(self, bad: Bad) -> Rows:
        schema = pa.schema(dict.fromkeys(self.names, pa.string()))
        found = self._rows(bad)
        while part := list(islice(found, _PART)):
            numbers = np.array([number for number, _ in part])
            yield numbers, pa.RecordBatch.from_pylist([row for _, row in part], schema)

    def _rows(self, bad: Bad) -> Iterator[tuple[int, Values]]:
        with self._open() as lines:
            number = 0
            while line := lines.readline(_BLOCK):
                number += 1
                if len(line) == _BLOCK and not line.endswith(b"\n"):
                    raise UnusableError(f"line {number} is longer than {_BLOCK >> 20} MB: is it JSON lines?")
                try:
                    row = self._row(line)
                except ValueError as error:
                    bad.append((number, str(error), line.decode("utf-8", "replace").rstrip("\r\n")))
                else:
                    if row is not None:
                        yield number, row

    def _row(self, line: bytes) -> Values | None:
        """The row of a line; None where there is nothing in it. Raises ValueError."""
        line = line.removeprefix(codecs.BOM_UTF8)
        if not line.strip():
            return None
        values = json_values(line)
        if missing := [name for name in self._columns if name not in values]:
            raise ValueError(f"the line lacks {', '.join(missing)}")
        return bronze_values(values, self._columns)

    def _records(self, usable: bool) -> Iterator[tuple[str, Values | None]]:
        for text, _ in super()._records(usable):
            try:
                row = self._row(text.encode("utf-8", "surrogateescape")) if usable else None
            except ValueError:
                row = None
            yield text, row


class _Parquet(Content):
    def __init__(self, source: Source, path: Path, size: int) -> None:
        self._path = path
        with path.open("rb") as file:
            file.seek(max(0, size - 4))
            self.whole = file.read(4) == b"PAR1"
        try:
            with self._open() as found:
                self.lines, self.names = found.metadata.num_rows, found.schema_arrow.names
        except _DAMAGE as error:
            self._wrong = _of_content(error)

    def _open(self) -> Any:
        # Times that older writers keep in 96 bits go beyond those that nanoseconds can count, where they would wrap.
        return pq.ParquetFile(self._path, buffer_size=_BUFFER, coerce_int96_timestamp_unit="us")

    def _check(self, columns: Iterable[str], bad: Bad) -> int:
        _refuse_doubles(self.names)
        _refuse_lacking(columns, self.names)
        try:
            return sum(batch.num_rows for _, batch in self.rows(bad))
        except _DAMAGE as error:
            raise UnusableError(f"{UNREADABLE}{_of_content(error)}") from error

    def rows(self, bad: Bad) -> Rows:
        following = 1
        with self._open() as file:
            for batch in file.iter_batches(_PART):
                columns = [as_text(column) for column in batch.columns]
                for column in columns:
                    column.validate(full=True)  # text of Parquet may be no UTF-8
                yield (
                    np.arange(following, following + batch.num_rows),
                    pa.record_batch(columns, names=batch.schema.names),
                )
                following += batch.num_rows

    def texts(self) -> Iterator[tuple[int, str]]:
        number = 0
        try:
            for numbers, batch in self.rows([]):
                for number, row in zip(numbers.tolist(), batch.to_pylist(), strict=True):
                    yield number, str(row)
        except _DAMAGE as error:
            _of_content(error)
        yield from ((later, "") for later in range(number + 1, self.lines + 1))

    def without(self, goes: Goes, *, usable: bool) -> tuple[bytes, int]:
        gone, target = 0, io.BytesIO()
        try:
            with self._open() as file, pq.ParquetWriter(target, file.schema_arrow) as kept:
                for batch, (_, texts) in zip(file.iter_batches(_PART), self.rows([]), strict=True):
                    stay = [not goes(str(row), row if usable else None) for row in texts.to_pylist()]
                    gone += stay.count(False)
                    kept.write_batch(batch.filter(pa.array(stay)))
        except _DAMAGE as error:  # of what is damaged nothing can be found
            _of_content(error)
            return b"", 0
        return target.getvalue(), gone


def json_values(line: bytes) -> dict[str, str | None]:
    """The fields of a JSON object as text, numbers as they are written. Raises ValueError for anything else."""
    try:
        values: Any = _JSON.decode(line.decode().strip())
        if not isinstance(values, dict):
            raise ValueError("it is no object")
        for name in [name for name, value in values.items() if value is not None and type(value) is not str]:
            values[name] = json.dumps(json.loads(line)[name])
        if b"\\u" in line:
            json.dumps(values, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON: {error}") from error
    return values


def bronze_values(values: Values, columns: Sequence[str]) -> dict[str, str | None]:
    """The fields of an object as the columns of Bronze: those that are declared, and the rest as JSON."""
    found = {name: values[name] for name in columns}
    rest = {name: value for name, value in values.items() if value is not None and name not in found}
    return found | {REST: json.dumps(rest) if rest else None}


def as_text(column: pa.Array) -> pa.Array:
    """The values of a column as text: what is nested as JSON, bytes that are no text in hexadecimal digits."""
    try:
        return column.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        text = _decoded if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type) else written
        return pa.array([None if value is None else text(value) for value in column.to_pylist()], pa.string())


def _decoded(value: bytes) -> str:
    """Bytes as text where they are some, whatever the others of their batch are."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return written(value)


def written(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else json.dumps(value, default=str)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it names a field twice")
    return found


# Made once, since `json.loads` with options makes one for each line.
_JSON = json.JSONDecoder(parse_int=str, parse_float=str, object_pairs_hook=_once)


def _refuse_lacking(columns: Iterable[str], names: Sequence[str]) -> None:
    if missing := [name for name in columns if name not in names]:
        raise UnusableError(f"the header lacks {', '.join(missing)}: it is {','.join(names)[:200]}")


def _refuse_doubles(header: Sequence[str]) -> None:
    names = Counter(name.lower() for name in (*header, *PROVENANCE))
    if again := [name or "one without a name" for name, times in names.items() if times > 1]:
        raise UnusableError(f"the header names a column twice, or as ingest does: {', '.join(again)}")


def _of_content(error: Exception) -> str:
    """What is wrong with a file's content; raises what is not."""
    if isinstance(error, OSError) and error.errno:
        raise error
    return str(error).splitlines()[0]


_UNCLOSED = "a quote is not closed, or a value is very long"


class _Lines:
    """The lines of a file, which remembers those that were taken."""

    def __init__(self, content: io.BufferedReader, errors: str = "strict") -> None:
        self._content, self._errors = content, errors
        self.taken: list[str] = []

    def __iter__(self) -> Iterator[str]:
        with io.TextIOWrapper(self._content, "utf-8", self._errors, newline="") as lines:
            for number, line in enumerate(lines):
                self.taken.append(line)
                yield line if number else line.removeprefix("\ufeff")  # before the quote of the first name, too


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
