"""What the rooms above speak of: tables by name, rows as a `Relation`, and which rows a write is about."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from mlplatform.errors import ConfigError
from mlplatform.storage.address import OBJECT_STORES, UNITY, filesystem, place, scheme, temporary, told

_BATCH = 100_000  # rows
WRITTEN = 10_000  # rows of the batches that a writer takes: Delta's has many of them in memory at once
BatchFunction = Callable[[pa.RecordBatch], pa.RecordBatch]


class Spool:
    """Rows in a temporary file, which goes when this object does: what several readers need is computed once, however
    large, and in no reader's thread."""

    def __init__(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        self.schema = schema
        self._folder = temporary()
        self.path = Path(self._folder.name, "rows.parquet")
        self.rows = 0
        with told(str(self.path)), pq.ParquetWriter(self.path, schema) as file:
            for batch in batches:
                file.write_batch(batch)
                self.rows += batch.num_rows

    def batches(self) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(self.path) as file:
            yield from file.iter_batches(_BATCH)

    def reader(self) -> pa.RecordBatchReader:
        """The rows for code that reads them in threads of its own, which must not run any Python."""
        rows = ds.dataset(self.path, schema=self.schema, format="parquet")
        return rows.scanner(batch_size=WRITTEN, batch_readahead=1, fragment_readahead=1, use_threads=False).to_reader()


class Relation(Protocol):
    """Rows that an engine has not computed yet."""

    @property
    def schema(self) -> pa.Schema: ...

    def count(self) -> int: ...

    @property
    def stored(self) -> Spool:
        """The rows in a temporary file, which is written once."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, part by part: no more of them than one batch is held in memory."""

    def arrow(self) -> pa.Table:
        """All rows at once."""

    def map(self, function: BatchFunction, schema: pa.Schema) -> "Relation":
        """The rows that `function` makes of each batch."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """What lets pandas and Polars make a frame of it: `pl.DataFrame(relation)`."""


@runtime_checkable
class Distributed(Protocol):
    """Rows on other machines, which write them themselves, in one transaction."""

    def write_delta(self, uri: str, *, predicate: str | None, configuration: Mapping[str, str]) -> int:
        """Append the rows to a table, or put them in the place of those that the predicate means; a new column widens
        it. Returns the number of rows written."""


Rows: TypeAlias = pa.Table | Spool | Relation


def before(time: datetime, span: timedelta) -> datetime:
    """The time a span earlier; where there is none, the first that there is."""
    return time - min(span, time - datetime.min)


def quoted(name: str) -> str:
    """A column's name in SQL: it may be a word of SQL, or hold spaces and quotes."""
    return '"' + name.replace('"', '""') + '"'


class Span(NamedTuple):
    """The time from `start` (excluded) to `end` (included), naive UTC."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class Among:
    """The rows whose column holds one of `values`, or nothing where `or_null`."""

    column: str
    values: Sequence[str]
    or_null: bool = False

    def predicate(self) -> str:
        """SQL that is true for these rows."""
        quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in self.values)
        found = f"{self.column} IN ({quoted})" if quoted else "false"
        return f"({found} OR {self.column} IS NULL)" if self.or_null else found


@dataclass(frozen=True)
class Window:
    """The rows with `after` < column <= `until`, naive UTC, and, of these, those `among`; None sets no limit."""

    column: str
    after: datetime | None = None
    until: datetime | None = None
    among: Among | None = None

    def predicate(self, cast: str = "") -> str:
        """SQL that is true for these rows; with `cast` as an engine needs it: `TIMESTAMP `."""
        limits = ((">", self.after), ("<=", self.until))
        parts = [f"{self.column} {sign} {cast}'{time}'" for sign, time in limits if time is not None]
        return " AND ".join(parts + ([self.among.predicate()] if self.among else [])) or "true"

    def backwards(self) -> "Iterator[Window]":
        """The window in parts that grow, newest first: a search for what is recent ends in the first."""
        until = self.until
        for days in (1, 4, 16, 64):
            if until is None or (self.after and until - self.after <= timedelta(days=days)):
                break
            yield replace(self, after=until - timedelta(days=days), until=until)
            until -= timedelta(days=days)
        yield replace(self, until=until)


@dataclass(frozen=True)
class Snapshot:
    """A table as it stands at a version, with what an engine needs to read it: its Parquet files and schema."""

    uri: str
    version: int
    files: tuple[str, ...]
    schema: pa.Schema

    def dataset(self) -> ds.Dataset:
        """Its files, which Arrow opens itself: through deltalake its threads call back into Python, and have aborted a
        process that was about to end."""
        system, _ = filesystem(self.uri)
        files = [filesystem(file)[1] for file in self.files]
        return ds.dataset(files, schema=self.schema, format="parquet", filesystem=system)


class Change(NamedTuple):
    """What one commit added to a table: its version, its time (naive UTC) and its rows, in the order they were written.

    `rewrites`: it took rows away, too, and may have added some of these again. `files`: their names; is each there?
    """

    version: int
    time: datetime
    rewrites: bool
    batches: Iterator[pa.RecordBatch]
    files: Iterable[tuple[str, bool]] = ()


class Catalog(Protocol):
    """The tables `<schema>.<table>` of one environment; every write is one transaction.

    `owner` is the environment that the tables belong to. Where another one holds this object, every writer raises
    ForbiddenError: another environment's tables can be read, never written.
    """

    owner: str

    def names(self) -> list[str]:
        """All tables, sorted, as `schema.table`."""

    def exists(self, name: str) -> bool: ...

    def snapshot(self, name: str, where: Window | None = None) -> Snapshot:
        """The table as it is now, without files that hold no row of the window. Raises MissingTableError."""

    def read(self, name: str, columns: Sequence[str] | None = None, where: Window | None = None) -> pa.Table:
        """A small table, or its rows in a window. One of the platform's own that is not there yet is empty."""

    def count(self, name: str) -> int: ...

    def history(self, name: str) -> Iterable[dict[str, object]]:
        """The table's commits, newest first."""

    def lease(self, holder: str) -> AbstractContextManager[None]:
        """Have the tables for oneself. While another process has them this one says so and waits.

        The lease of a process that dies is free again.
        """

    def append(self, name: str, rows: Rows, marks: Mapping[str, int] | None = None) -> int:
        """Add rows; a new column widens the table. Returns the number of rows written.

        `marks` are kept in the same transaction: how far some writer has come, by its name.
        """

    def mark(self, name: str, writer: str) -> int | None:
        """The mark that this writer's last transaction has left in the table."""

    def changes(self, name: str, after: int, columns: Sequence[str] | None = None) -> Iterator[Change]:
        """What the commits after version `after` have added, oldest first. Raises GoneError where that is not kept."""

    def replace(self, name: str, rows: Rows, where: Window | Among, marks: Mapping[str, int] | None = None) -> int:
        """Put `rows` in the place of those that `where` means. Returns the number of rows written."""

    def upsert(self, name: str, rows: pa.Table, keys: Sequence[str]) -> int:
        """Insert rows, or update those whose keys are there; keys must be unique within `rows`."""

    def delete(self, name: str, where: Window | Among) -> int:
        """Delete rows; `compact` deletes their files. Returns the number of rows deleted."""

    def remove(self, name: str, keys: pa.Table) -> None:
        """Delete the rows that have the values of a row of `keys`; no log holds these."""

    def compact(self, name: str, keep: timedelta) -> None:
        """Merge small files into large ones and write a checkpoint; delete, for good, files and log entries that only
        versions older than `keep` need (on the wall clock), and files older than that which no version knows."""


# By the scheme of the address that `lakehouse.root` holds.
STORES = {
    **dict.fromkeys(("", *OBJECT_STORES), "mlplatform.storage.delta:DeltaCatalog"),
    UNITY: "mlplatform.storage.unity:UnityCatalog",
}


def open_catalog(folder: Path, root: str, *, owner: str, reader: str) -> Catalog:
    """The tables of `owner` below `root`, an address or a folder below `folder`. Raises ConfigError."""
    where = place(folder, root, "lakehouse.root")
    catalog: Catalog = load(STORES, scheme(root), "lakehouse.root")(where, owner=owner, reader=reader)
    return catalog


def load(members: Mapping[str, str], name: str, setting: str) -> Any:
    """The member that the setting names. Raises ConfigError for one that there is not."""
    there = [name for name, member in members.items() if find_spec(member.partition(":")[0])]
    if name not in there:
        raise ConfigError(f"{setting}: {name!r} is not supported here (choose from: {', '.join(there)})")
    return option(members[name])


def option(member: str) -> Any | None:
    """`<module>:<name>` of the platform, for what an option adds; None where that was not chosen."""
    module, _, attribute = member.partition(":")
    is_here = find_spec(module.rpartition(".")[0]) and find_spec(module)
    return getattr(import_module(module), attribute) if is_here else None
