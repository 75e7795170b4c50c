"""Delta tables on disk: one environment's lakehouse, read by name and written in single transactions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError

from mlplatform.errors import ForbiddenError, MissingTableError


@dataclass(frozen=True)
class Source:
    """A table as it stands at a Delta version, with what an engine needs to read it: its Parquet files and schema."""

    path: Path
    version: int
    files: tuple[str, ...]
    schema: pa.Schema


class Tables:
    """The tables `<schema>.<table>` below `root`.

    `owner` is the environment the tables belong to, `reader` the one that holds this object. Where they differ,
    every writer raises ForbiddenError: another environment's tables can be read, never written.
    """

    def __init__(self, root: Path, *, owner: str, reader: str | None = None) -> None:
        self.root = root
        self.owner = owner
        self.reader = reader or owner

    def names(self) -> list[str]:
        """All tables, sorted, as `schema.table`."""
        folders = [log.parent for log in self.root.glob("*/*/_delta_log")]
        return sorted(f"{path.parent.name}.{path.name}" for path in folders if DeltaTable.is_deltatable(str(path)))

    def path(self, name: str) -> Path:
        schema, _, table = name.partition(".")
        return self.root / schema / table

    def exists(self, name: str) -> bool:
        return (self.path(name) / "_delta_log").is_dir() and DeltaTable.is_deltatable(str(self.path(name)))

    def version(self, name: str) -> int:
        """The Delta version that a reader sees now."""
        return int(self._open(name).version())

    def source(self, name: str) -> Source:
        """The table's files and schema, for an engine that reads no more of them than it needs."""
        table = self._open(name)
        schema = pa.schema(table.schema().to_arrow())
        return Source(self.path(name), int(table.version()), tuple(table.file_uris()), schema)

    def dataset(self, name: str) -> ds.Dataset:
        """The table as a lazy Arrow dataset.

        Arrow opens the files itself: through deltalake its threads call back into Python, and have aborted a process
        that was about to end.
        """
        source = self.source(name)
        return ds.dataset(list(source.files), schema=source.schema, format="parquet")

    def read(self, name: str, columns: Sequence[str] | None = None, where: pc.Expression | None = None) -> pa.Table:
        """The whole table, or some of it. Meant for small tables: what is left out is read all the same.

        Arrow cannot push a comparison with text down to files that a Delta merge has written (as string_view).
        """
        rows = self.dataset(name).to_table()
        rows = rows if where is None else rows.filter(where)
        return rows.select(list(columns)) if columns else rows

    def schema(self, name: str) -> pa.Schema:
        return self.source(name).schema

    def append(self, name: str, rows: pa.Table) -> int:
        """Add rows; a new column widens the table. Returns the number of rows written."""
        self._refuse_foreign_write(name)
        self._write(name, rows, mode="append", schema_mode="merge")
        return int(rows.num_rows)

    def replace(self, name: str, rows: pa.Table | pa.RecordBatchReader, where: str) -> None:
        """Put `rows` in the place of those for which the SQL predicate `where` holds, in one transaction."""
        self._refuse_foreign_write(name)
        if self.exists(name):
            self._write(name, rows, mode="overwrite", predicate=where, schema_mode="merge")
        else:
            self._write(name, rows, mode="error")

    def upsert(self, name: str, rows: pa.Table, keys: Sequence[str]) -> int:
        """Insert rows, or update those whose keys are there; keys must be unique within `rows`."""
        if not self.exists(name):
            return self.append(name, rows)
        self._refuse_foreign_write(name)
        if rows.num_rows:
            same = " AND ".join(f"old.{key} = new.{key}" for key in keys)
            merge = self._open(name).merge(rows, same, source_alias="new", target_alias="old")
            merge.when_matched_update_all().when_not_matched_insert_all().execute()
        return int(rows.num_rows)

    def delete(self, name: str, where: str) -> int:
        """Delete rows and, for good, the files that only they were in. Returns the number of rows deleted."""
        self._refuse_foreign_write(name)
        table = self._open(name)
        deleted = int(table.delete(where)["num_deleted_rows"])
        if deleted:
            table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
        return deleted

    def compact(self, name: str) -> None:
        """Merge small files into large ones."""
        self._refuse_foreign_write(name)
        self._open(name).optimize.compact()

    def history(self, name: str) -> Iterator[dict[str, object]]:
        """The table's commits, newest first."""
        yield from self._open(name).history()

    def _open(self, name: str) -> DeltaTable:
        try:
            return DeltaTable(str(self.path(name)))
        except TableNotFoundError as error:
            known = ", ".join(self.names()) or "none"
            raise MissingTableError(f"{self.owner} has no table {name} yet (its tables: {known})") from error

    def _write(self, name: str, rows: pa.Table | pa.RecordBatchReader, **how: Any) -> None:
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        # Whoever opens a table reads each commit since its last checkpoint.
        write_deltalake(str(self.path(name)), rows, configuration={"delta.checkpointInterval": "10"}, **how)

    def _refuse_foreign_write(self, name: str) -> None:
        if self.owner != self.reader:
            raise ForbiddenError(f"{self.reader} may read {self.owner}'s tables, not write them: {name} is unchanged")
