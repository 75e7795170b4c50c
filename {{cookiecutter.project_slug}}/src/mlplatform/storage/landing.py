"""The landing zone: CSV files as sources deliver them, `<landing>/<source>/<time of landing>.csv`."""

from collections import Counter
from csv import Error as CsvError
from csv import reader
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv

from mlplatform.errors import UserError

PROVENANCE = ("source_file", "source_row", "landed_at", "ingested_at")
NAME_FORMAT = "%Y%m%dT%H%M%SZ"


class UnreadableFileError(UserError):
    """A file that is no CSV table at all; the message says why."""


@dataclass(frozen=True)
class LandedFile:
    """A file in the landing zone and when it landed (naive UTC): its name says so, or else the file system."""

    path: Path
    landed_at: datetime

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"


@dataclass
class Lines:
    """What a file holds: `rows` with every value a string, and the lines that do not fit its header."""

    rows: pa.Table
    malformed: list[tuple[int, str, str]] = field(default_factory=list)


def landed_files(landing: Path, source: str, until: datetime) -> list[LandedFile]:
    """The files of `source` that had landed by `until`, oldest first."""
    files = [LandedFile(path, _landed_at(path)) for path in (landing / source).glob("*.csv")]
    return sorted((f for f in files if f.landed_at <= until), key=lambda f: (f.landed_at, f.name))


def read(file: LandedFile) -> Lines:
    """Read a file as it was received. Lines are numbered from 1, the header's.

    Raises UnreadableFileError where there is no table to read.
    """
    malformed: list[tuple[int, str, str]] = []
    header = _header(file.path)

    def set_aside(line: csv.InvalidRow) -> str:
        reason = f"{line.actual_columns} fields where the header has {line.expected_columns}"
        malformed.append((line.number, reason, line.text))
        return "skip"

    try:
        rows = csv.read_csv(
            file.path,
            read_options=csv.ReadOptions(use_threads=False),
            parse_options=csv.ParseOptions(invalid_row_handler=set_aside, newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types={name: pa.string() for name in header},
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=[""],
            ),
        )
    except pa.ArrowInvalid as error:
        raise UnreadableFileError(str(error).splitlines()[0]) from error
    bad = {number for number, _, _ in malformed}
    numbers = [n for n in range(2, rows.num_rows + len(bad) + 2) if n not in bad]
    provenance = (
        pa.array([file.name] * rows.num_rows, pa.string()),
        pa.array(numbers, pa.int64()),
        pa.array([file.landed_at] * rows.num_rows, pa.timestamp("us")),
        pa.array([datetime.now(UTC).replace(tzinfo=None)] * rows.num_rows, pa.timestamp("us")),
    )
    for name, values in zip(PROVENANCE, provenance, strict=True):
        rows = rows.append_column(name, values)
    return Lines(rows, malformed)


def missing_columns(file: LandedFile, rows: pa.Table, expected: list[str]) -> str:
    """Why `rows` cannot be loaded beside rows with the columns `expected`, or nothing."""
    missing = [name for name in expected if name not in rows.column_names]
    return f"{file.name} lacks the columns {', '.join(missing)}" if missing else ""


def _header(path: Path) -> list[str]:
    """The names in the first line. Raises UnreadableFileError where two columns of Bronze would have one name."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            header = next(reader(lines), [])
    except (UnicodeDecodeError, CsvError) as error:
        raise UnreadableFileError(str(error).splitlines()[0]) from error
    names = Counter(name.lower() for name in (*header, *PROVENANCE))
    again = [name for name, times in names.items() if times > 1]
    if again:
        raise UnreadableFileError(f"the header names a column twice, or as ingest does: {', '.join(again)}")
    return header


def _landed_at(path: Path) -> datetime:
    try:
        return datetime.strptime(path.stem, NAME_FORMAT)
    except ValueError:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(tzinfo=None)
