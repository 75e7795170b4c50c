"""Tables in Unity Catalog: in uc://prod/rides the table silver.items is prod.rides_silver.items.

Every statement goes through Spark, so what a person or a job may read and write is what Unity Catalog grants; no
address and no key of a store is known here. The schemas are the bundle's to make.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, timedelta
from functools import cache
from typing import Any

import pyarrow as pa

from mlplatform.errors import ConfigError, ForbiddenError, GoneError, MissingTableError
from mlplatform.storage import ops
from mlplatform.storage.address import UNITY, Place, Remote
from mlplatform.storage.catalog import Among, Change, Distributed, Rows, Snapshot, Spool, Window
from mlplatform.storage.lease import Lease

_TIME = "TIMESTAMP_NTZ "
_REFUSED = re.compile(r"\[(INSUFFICIENT_P|PERMISSION_DENIED|UNAUTHORIZED)[^\n]*")


@cache
def session() -> Any:
    """Spark where this process runs: a job's or a notebook's own session, or Databricks Connect from elsewhere.

    Got once: Databricks Connect asks the workspace about itself each time. Raises ConfigError where it has no log-in.
    """
    try:
        return _kind().builder.getOrCreate()
    except Exception as error:
        if type(error) not in (Exception, ValueError):  # which are its own, of what it was not told
            raise
        what = f"Databricks Connect (docs/databricks.md, From your machine): {error}"
        raise ConfigError(f"lakehouse.spark: {{master: databricks}}: {what}") from error


def _kind() -> Any:
    """The class of sessions. Plain pyspark is one only where a session runs: elsewhere it knows no workspace."""
    try:
        from databricks.connect import DatabricksSession
    except ImportError as error:
        try:
            from pyspark.sql import SparkSession

            there = "DATABRICKS_RUNTIME_VERSION" in os.environ or SparkSession.getActiveSession() is not None
        except ImportError:
            there = False
        if not there:
            where = "in a job there, or with Databricks Connect (docs/databricks.md, From your machine)"
            raise ConfigError(f"lakehouse.spark: {{master: databricks}} works {where}: {error}") from error
        return SparkSession
    return DatabricksSession


class UnityCatalog:
    """The tables `<catalog>.<prefix>_<schema>.<table>`. See `Catalog`."""

    def __init__(self, root: Place, *, owner: str, reader: str) -> None:
        self.root = root
        self.owner = owner
        self.reader = reader
        self._catalog, _, prefix = str(root).removeprefix(f"{UNITY}://").partition("/")
        self._prefix = f"{prefix}_" if prefix else ""
        self._lease: Lease | None = None

    def names(self) -> list[str]:
        found = []
        for row in self._sql(f"SHOW SCHEMAS IN `{self._catalog}`"):
            schema = row[0].removeprefix(self._prefix)
            if row[0].startswith(self._prefix) and schema not in ("default", "information_schema"):
                tables = self._sql(f"SHOW TABLES IN `{self._catalog}`.`{row[0]}`")
                found += [f"{schema}.{table.tableName}" for table in tables if not table.isTemporary]
        return sorted(found)

    def exists(self, name: str) -> bool:
        with _told():
            return bool(session().catalog.tableExists(self._name(name)))

    def snapshot(self, name: str, where: Window | None = None) -> Snapshot:
        from pyspark.sql.pandas.types import to_arrow_schema

        newest = self._sql(f"DESCRIBE HISTORY {self._known(name)} LIMIT 1")[0].version
        schema = to_arrow_schema(session().table(self._name(name)).schema)
        fields = [field.with_nullable(True) for field in schema]
        return Snapshot(f"{UNITY}://{self._name(name)}", int(newest), (), pa.schema(fields))

    def read(self, name: str, columns: Sequence[str] | None = None, where: Window | None = None) -> pa.Table:
        wanted = ops.SCHEMAS.get(name)
        if wanted is not None and not self.exists(name):
            rows = wanted.empty_table()
        else:
            with _told():
                frame = session().table(self._known(name)).where(where.predicate(_TIME) if where else "true")
                known = [column for column in columns or frame.columns if column in frame.columns]
                rows = frame.select(*known).toArrow()
        for field in wanted or ():  # a column may be newer than the table
            if field.name not in rows.column_names and (columns is None or field.name in columns):
                rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
        return rows.select(list(columns)) if columns else rows

    def count(self, name: str) -> int:
        with _told():
            return int(session().table(self._known(name)).count())

    def history(self, name: str) -> Iterable[dict[str, object]]:
        return [row.asDict() for row in self._sql(f"DESCRIBE HISTORY {self._known(name)}")]

    @contextmanager
    def lease(self, holder: str) -> Iterator[None]:
        self._refuse_foreign_write("its lease")
        with _TableLease(Remote(self._name("ops.lease")), holder, self.owner) as self._lease:
            yield
        self._lease = None

    def append(self, name: str, rows: Rows, marks: Mapping[str, int] | None = None) -> int:
        return self._write(name, rows, None, marks)

    def mark(self, name: str, writer: str) -> int | None:
        for commit in self.history(name) if self.exists(name) else ():
            marks = json.loads(str(commit["userMetadata"] or "{}"))
            if writer in marks:
                return int(marks[writer])
        return None

    def changes(self, name: str, after: int, columns: Sequence[str] | None = None) -> Iterator[Change]:
        for commit in sorted(self.history(name), key=lambda commit: int(str(commit["version"]))):
            version, made = int(str(commit["version"])), commit["timestamp"]
            if version <= after:
                continue
            if version > after + 1:
                raise GoneError(f"{name}: version {after + 1} is not kept any more: its log was cleaned up")
            after = version
            reader = session().read.option("readChangeFeed", "true").option("startingVersion", version)
            with _told():
                frame = reader.option("endingVersion", version).table(self._known(name))
                kinds = {row[0] for row in frame.select("_change_type").distinct().collect()}
                added = frame.where("_change_type IN ('insert', 'update_postimage')")
                kept = columns or [column for column in frame.columns if not column.startswith(("_change", "_commit"))]
                rows = added.select(*kept).toArrow()
            if rows.num_rows:
                time = made.astimezone(UTC).replace(tzinfo=None)  # type: ignore[attr-defined]
                yield Change(version, time, kinds != {"insert"}, iter(rows.to_batches()))

    def replace(self, name: str, rows: Rows, where: Window | Among, marks: Mapping[str, int] | None = None) -> int:
        how = {"cast": _TIME} if isinstance(where, Window) else {}
        return self._write(name, rows, where.predicate(**how) if self.exists(name) else None, marks)

    def upsert(self, name: str, rows: pa.Table, keys: Sequence[str]) -> int:
        if not self.exists(name):
            return self.append(name, rows)
        self._refuse_foreign_write(name)
        if rows.num_rows:
            same = " AND ".join(f"old.`{key}` = new.`{key}`" for key in keys)
            self._sql(
                f"MERGE INTO {self._name(name)} AS old USING {{new}} AS new ON {same} "
                "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *",
                new=_frame(rows),
            )
        return int(rows.num_rows)

    def delete(self, name: str, where: Window | Among) -> int:
        self._refuse_foreign_write(name)
        condition = where.predicate(_TIME) if isinstance(where, Window) else where.predicate()
        return int(self._sql(f"DELETE FROM {self._known(name)} WHERE {condition}")[0].num_affected_rows)

    def remove(self, name: str, keys: pa.Table) -> None:
        self._refuse_foreign_write(name)
        same = " AND ".join(f"old.`{key}` = gone.`{key}`" for key in keys.column_names)
        statement = f"MERGE INTO {self._known(name)} AS old USING {{gone}} AS gone ON {same} WHEN MATCHED THEN DELETE"
        self._sql(statement, gone=_frame(keys))

    def compact(self, name: str, keep: timedelta) -> None:
        self._refuse_foreign_write(name)
        table, seconds = self._known(name), int(keep.total_seconds())
        kept = f"'delta.deletedFileRetentionDuration' = 'interval {seconds} seconds'"
        self._sql(f"ALTER TABLE {table} SET TBLPROPERTIES ({kept})")
        self._sql(f"OPTIMIZE {table}")
        self._sql(f"VACUUM {table}")

    def _name(self, name: str) -> str:
        schema, _, table = name.partition(".")
        return f"{self._catalog}.{self._prefix}{schema}.{table}"

    def _known(self, name: str) -> str:
        if not self.exists(name):
            known = ", ".join(self.names()) or "none"
            raise MissingTableError(f"{self.owner} has no table {name} yet (its tables: {known})")
        return self._name(name)

    def _write(self, name: str, rows: Rows, predicate: str | None, marks: Mapping[str, int] | None) -> int:
        self._refuse_foreign_write(name)
        options = {"delta.enableChangeDataFeed": "true"}
        if marks:
            if not self.exists(name):  # the commit that makes a table keeps none
                self._write(name, rows.schema.empty_table(), None, None)
            options["userMetadata"] = json.dumps(dict(marks))
        uri = f"{UNITY}://{self._name(name)}"
        if isinstance(rows, Distributed):
            return rows.write_delta(uri, predicate=predicate, configuration=options)
        if isinstance(rows, Spool):
            table = rows.reader().read_all()
        else:
            table = rows if isinstance(rows, pa.Table) else rows.arrow()
        writer = _frame(table).write.format("delta").options(**options).option("mergeSchema", "true")
        writer = writer.mode("overwrite").option("replaceWhere", predicate) if predicate else writer.mode("append")
        with _told():
            writer.saveAsTable(self._name(name))
        return int(table.num_rows)

    def _sql(self, statement: str, **frames: Any) -> list[Any]:
        with _told():
            return list(session().sql(statement, **frames).collect())

    def _refuse_foreign_write(self, name: str) -> None:
        if self.owner != self.reader:
            raise ForbiddenError(f"{self.reader} may read {self.owner}'s tables, not write them: {name} is unchanged")
        if self._lease:
            self._lease.check()


class _TableLease(Lease):
    """The lease as the only row of a table: whoever updates the version that it has seen is its holder."""

    @property
    def _expires(self) -> float:
        return 600.0  # each renewal is a commit

    def _connect(self) -> None:
        with _told():
            session().sql(f"CREATE TABLE IF NOT EXISTS {self._root} USING delta AS SELECT 0L AS version, '' AS content")

    def _read(self) -> tuple[dict[str, str], dict[str, str]]:
        with _told():
            row = session().table(str(self._root)).collect()[0]
        return {"version": str(row.version)}, json.loads(row.content or "{}")

    def _try(self, content: dict[str, str], mode: str | dict[str, str]) -> bool:
        if not isinstance(mode, dict):
            return False  # it is always there
        version = int(mode["version"])
        values = f"version = {version + 1}, content = {{content}}"
        try:
            done = session().sql(
                f"UPDATE {self._root} SET {values} WHERE version = {version}", content=json.dumps(content)
            )
            updated = bool(done.collect()[0].num_affected_rows)
        except Exception as error:
            if "Concurrent" not in str(error) and "CONCURRENT" not in str(error):
                raise
            return False
        if updated:
            self._version = {"version": str(version + 1)}
        return updated

    def _refuse_blind_store(self) -> None:
        """Delta takes one of two commits, wherever it is."""


def _frame(rows: pa.Table) -> Any:
    from pyspark.sql.pandas.types import from_arrow_schema

    return session().createDataFrame(rows, from_arrow_schema(rows.schema, prefer_timestamp_ntz=True))


@contextmanager
def _told() -> Iterator[None]:
    """What Unity Catalog refuses is told in one line."""
    from pyspark.errors import PySparkException

    try:
        yield
    except PySparkException as error:
        if refused := _REFUSED.search(str(error)):
            raise ForbiddenError(f"Unity Catalog refuses: {refused[0]}") from error
        raise
