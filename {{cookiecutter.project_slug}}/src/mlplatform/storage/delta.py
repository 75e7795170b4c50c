"""Delta tables, on a local disk or an object store."""

import fcntl
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from mlplatform.errors import ForbiddenError, GoneError, MissingTableError
from mlplatform.storage import ops
from mlplatform.storage.address import Place, Remote, filesystem, told
from mlplatform.storage.catalog import WRITTEN, Among, Change, Distributed, Rows, Snapshot, Spool, Window, quoted
from mlplatform.storage.lease import Lease

# Errors of Delta that are not about what is written, but where.
_OF_FILES = re.compile(r"os error|Object Store|Parquet error|Kernel error")
_DAMAGED = (
    "A file of this table is damaged or missing. Nothing was changed: put it back from a backup, and run the same "
    "command again; or make the table anew (docs/runbook.md, A damaged table)"
)


class DeltaCatalog:
    """The tables below `root`: `<root>/<schema>/<table>`. See `Catalog`."""

    def __init__(self, root: Place, *, owner: str, reader: str) -> None:
        self.root = root
        self.owner = owner
        self.reader = reader
        self._lease: Lease | None = None

    def names(self) -> list[str]:
        schemas = [schema for schema in self.root.iterdir() if schema.is_dir()] if self.root.is_dir() else []
        tables = [f"{schema.name}.{table.name}" for schema in schemas for table in schema.iterdir()]
        return sorted(name for name in tables if self.exists(name))

    def exists(self, name: str) -> bool:
        with _told(path := self._path(name)):
            return (path / "_delta_log").is_dir() and DeltaTable.is_deltatable(str(path))

    def snapshot(self, name: str, where: Window | None = None) -> Snapshot:
        table, path = self._open(name), self._path(name)
        added = pa.table(table.get_add_actions(flatten=True))
        if where is not None and {f"min.{where.column}", f"max.{where.column}"} <= set(added.column_names):
            added = added.filter(_may_hold(added, where))
        # Not file_uris(): it encodes spaces and accents.
        files = tuple(str(path / file) for file in added["path"].to_pylist())
        return Snapshot(str(path), int(table.version()), files, pa.schema(table.schema().to_arrow()))

    def read(self, name: str, columns: Sequence[str] | None = None, where: Window | None = None) -> pa.Table:
        if name in ops.SCHEMAS and not self.exists(name):
            empty = ops.SCHEMAS[name].empty_table()
            return empty.select(list(columns)) if columns else empty
        with _told(self._path(name)):
            found = self.snapshot(name, where)
            schema = pa.unify_schemas([found.schema, ops.SCHEMAS.get(name, found.schema)])  # one may be newer
            rows = replace(found, schema=schema).dataset()
            return rows.to_table(list(columns) if columns else None, _expression(where) if where else None)

    def count(self, name: str) -> int:
        with _told(self._path(name)):
            return int(self.snapshot(name).dataset().count_rows())

    def history(self, name: str) -> Iterable[dict[str, object]]:
        return list(self._open(name).history())

    @contextmanager
    def lease(self, holder: str) -> Iterator[None]:
        self._refuse_foreign_write("its lease")
        if isinstance(self.root, Remote):
            with Lease(self.root, holder, self.owner) as self._lease:
                try:
                    yield
                finally:
                    self._lease = None
            return
        with _told(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            file = (self.root / ".lease").open("ab+", buffering=0)
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                sys.stderr.write(f"{holder} waits: {file.read().decode()} has the tables of {self.owner}\n")
                fcntl.flock(file, fcntl.LOCK_EX)
            with _told(self.root):
                file.truncate(0)
                file.write(holder.encode())
            yield

    def append(self, name: str, rows: Rows, marks: Mapping[str, int] | None = None) -> int:
        return self._write(name, rows, marks, mode="append", schema_mode="merge")

    def mark(self, name: str, writer: str) -> int | None:
        return self._open(name).transaction_version(writer) if self.exists(name) else None

    def changes(self, name: str, after: int, columns: Sequence[str] | None = None) -> Iterator[Change]:
        for version in range(after + 1, int(self._open(name).version()) + 1):
            try:
                system, log = filesystem(str(self._path(name) / "_delta_log" / f"{version:020}.json"))
                with system.open_input_stream(log) as file:
                    actions = [json.loads(line) for line in file.read().splitlines()]
            except FileNotFoundError as error:
                raise GoneError(f"{name}: version {version} is not kept any more: its log was cleaned up") from error
            added = [action["add"] for action in actions if "add" in action and action["add"]["dataChange"]]
            rewrites = any("remove" in action and action["remove"]["dataChange"] for action in actions)
            info: dict[str, Any] = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
            at = datetime(1970, 1, 1) + timedelta(milliseconds=info.get("inCommitTimestamp", info.get("timestamp", 0)))
            if added:
                places = map(filesystem, [str(self._path(name) / unquote(file["path"])) for file in added])
                files = ((path.rpartition("/")[2], system.get_file_info(path).is_file) for system, path in places)
                yield Change(version, at, rewrites, self._added(name, version, added, columns), files)

    def replace(self, name: str, rows: Rows, where: Window | Among, marks: Mapping[str, int] | None = None) -> int:
        if not self.exists(name):
            return self._write(name, rows, marks, mode="error")
        return self._write(name, rows, marks, mode="overwrite", predicate=where.predicate(), schema_mode="merge")

    def upsert(self, name: str, rows: pa.Table, keys: Sequence[str]) -> int:
        if not self.exists(name):
            return self.append(name, rows)
        self._refuse_foreign_write(name)
        if rows.num_rows:
            same = " AND ".join(f"old.{key} = new.{key}" for key in keys)
            with _told(self._path(name)):
                merge = self._open(name).merge(rows, same, source_alias="new", target_alias="old")
                merge.when_matched_update_all().when_not_matched_insert_all().execute()
        return int(rows.num_rows)

    def delete(self, name: str, where: Window | Among) -> int:
        self._refuse_foreign_write(name)
        with _told(self._path(name)):
            return int(self._open(name).delete(where.predicate())["num_deleted_rows"])

    def remove(self, name: str, keys: pa.Table) -> None:
        self._refuse_foreign_write(name)
        same = " AND ".join(f"old.{name} = gone.{name}" for name in map(quoted, keys.column_names))
        with _told(self._path(name)):  # not `delete`: its log would quote the values
            self._open(name).merge(keys, same, source_alias="gone", target_alias="old").when_matched_delete().execute()

    def compact(self, name: str, keep: timedelta) -> None:
        self._refuse_foreign_write(name)
        table, kept = self._open(name), f"interval {int(keep.total_seconds())} seconds"
        wanted = {f"delta.{what}RetentionDuration": kept for what in ("log", "deletedFile")}
        with _told(self._path(name)):
            if wanted.items() - table.metadata().configuration.items():
                table.alter.set_table_properties(wanted)
            table.optimize.compact()
            table.vacuum(dry_run=False, full=True)
            table.create_checkpoint()
            table.cleanup_metadata()

    def _path(self, name: str) -> Place:
        schema, _, table = name.partition(".")
        return self.root / schema / table

    def _open(self, name: str) -> DeltaTable:
        path = self._path(name)
        try:
            with _told(path):
                table = DeltaTable(str(path))
                newest = path / "_delta_log" / f"{table.version():020}.json"
                if isinstance(newest, Path) and newest.exists() and not newest.stat().st_size:
                    raise OSError(f"{newest.name} is empty")  # Delta takes it for a commit that changed nothing
                return table
        except TableNotFoundError as error:
            known = ", ".join(self.names()) or "none"
            raise MissingTableError(f"{self.owner} has no table {name} yet (its tables: {known})") from error

    def _added(
        self, name: str, version: int, files: Sequence[dict[str, Any]], columns: Sequence[str] | None
    ) -> Iterator[pa.RecordBatch]:
        """The rows of files that a commit has added; what a table is partitioned by stands in their names only."""
        for file in files:
            try:
                system, path = filesystem(str(self._path(name) / unquote(file["path"])))
                found = ds.dataset(path, format="parquet", filesystem=system)
                for batch in found.to_batches(columns=list(columns) if columns else None):
                    for column, value in file["partitionValues"].items():
                        batch = batch.append_column(column, pa.repeat(pa.scalar(value, pa.string()), batch.num_rows))
                    yield batch
            except FileNotFoundError as error:
                raise GoneError(f"{name}: version {version} is not kept any more: its files were deleted") from error

    def _write(self, name: str, rows: Rows, marks: Mapping[str, int] | None = None, **how: Any) -> int:
        self._refuse_foreign_write(name)
        if isinstance(path := self._path(name), Path):
            with _told(path):
                path.parent.mkdir(parents=True, exist_ok=True)
        # Whoever opens a table reads each commit since its last checkpoint.
        how["configuration"] = {"delta.checkpointInterval": "10"}
        if isinstance(rows, Distributed) and not marks:
            return rows.write_delta(str(path), predicate=how.get("predicate"), configuration=how["configuration"])
        given = rows if isinstance(rows, pa.Table | Spool) else rows.stored
        reader = given.to_reader(WRITTEN) if isinstance(given, pa.Table) else given.reader()
        if marks:
            how["commit_properties"] = CommitProperties(app_transactions=[Transaction(*mark) for mark in marks.items()])
        with _told(path):
            write_deltalake(str(path), reader, **how)
        return int(given.num_rows if isinstance(given, pa.Table) else given.rows)

    def _refuse_foreign_write(self, name: str) -> None:
        if self.owner != self.reader:
            raise ForbiddenError(f"{self.reader} may read {self.owner}'s tables, not write them: {name} is unchanged")
        if self._lease:
            self._lease.check()


@contextmanager
def _told(path: Place) -> Iterator[None]:
    with told(str(path), _DAMAGED):
        try:
            yield
        except (DeltaError, pa.ArrowInvalid) as error:
            if isinstance(error, DeltaError) and not _OF_FILES.search(str(error)):
                raise
            raise OSError(re.split(r"\s+(?:0: <unknown>|ParsedLogPath)", str(error))[0]) from error


def _expression(where: Window) -> pc.Expression:
    column, condition = pc.field(where.column), pc.scalar(True)
    if where.after is not None:
        condition &= column > pa.scalar(where.after, ops.TIME)
    if where.until is not None:
        condition &= column <= pa.scalar(where.until, ops.TIME)
    if where.among is not None:
        of = pc.field(where.among.column)
        listed = of.isin(list(where.among.values))
        condition &= listed | of.is_null() if where.among.or_null else listed
    return condition


def _may_hold(added: pa.Table, where: Window) -> pa.Array:
    """By the statistics of a table's files, which ones may hold rows of the window; those without any, always."""
    # Delta rounds a timestamp's statistics down, to milliseconds.
    least, most = (added[f"{side}.{where.column}"].cast(ops.TIME) for side in ("min", "max"))
    kept = pa.array([True] * added.num_rows, pa.bool_())
    if where.after is not None:
        kept = pc.and_(kept, pc.greater(pc.add(most, timedelta(milliseconds=1)), pa.scalar(where.after, ops.TIME)))
    if where.until is not None:
        kept = pc.and_(kept, pc.less_equal(least, pa.scalar(where.until, ops.TIME)))
    return pc.fill_null(kept, True)
