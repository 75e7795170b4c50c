"""The local engine: Spark SQL's shared dialect on DuckDB, over Delta tables as they were known at a time."""

import re
import tempfile
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from mlplatform.config.loading import suggestion
from mlplatform.engine import NO_QUERY, SCHEMAS, Cluster, Find, View, located, newest_known, sources
from mlplatform.errors import ForbiddenError, QueryError
from mlplatform.storage.address import scheme
from mlplatform.storage.catalog import BatchFunction, Rows, Snapshot, Spool, Window, quoted

BATCH = 100_000  # rows
_Table = tuple[str, Rows | Snapshot, str]  # name, what it holds, and the rows that are shown (SQL)


class DuckDb:
    """Answers SQL over `schema.table` names, which `find` resolves to Parquet files (None: no such table)."""

    def __init__(
        self, find: Find = lambda name: None, *, memory_limit: str = "1GB", cluster: Cluster | None = None
    ) -> None:
        self._find = find
        self._memory_limit = memory_limit

    def query(
        self,
        sql: str,
        *,
        as_of: datetime | None = None,
        since: datetime | None = None,
        given: Mapping[str, Rows] | None = None,
    ) -> "Query":
        with _told(sql):
            kinds = [statement.type for statement in duckdb.extract_statements(sql)]
        if kinds != [duckdb.StatementType.SELECT]:
            raise ForbiddenError(located(sql, NO_QUERY))
        known = Window("available_at", since, as_of).predicate("TIMESTAMP ")
        tables: list[_Table] = []
        for name, source in sources(sql, self._find, given).items():
            shown = known if not name.startswith("given.") and "available_at" in source.schema.names else "true"
            tables.append((name, source, shown))
        return Query(self._memory_limit, sql.rstrip().rstrip(";"), tables)

    def point_in_time(
        self,
        entities: Rows,
        views: Sequence[View],
        *,
        as_of: datetime,
        since: datetime | None = None,
        given: Mapping[str, Rows] | None = None,
        order: Sequence[str] = (),
    ) -> "Query":
        features = [
            f"{_fresh(view, quoted(column))} AS {quoted(f'{view.name}__{column}')}"
            for view in views
            for column in view.columns
        ]
        times = ", ".join(["NULL::TIMESTAMP", *(_fresh(view, "event_timestamp") for view in views)])
        columns = ", ".join(["entities.*", *features, f"greatest({times}) AS feature_time"])
        joins = " ".join(
            f"ASOF LEFT JOIN ({_latest_known(view)}) AS {view.name} "
            f"ON {''.join(f'entities.{key} = {view.name}.{key} AND ' for key in view.keys)}"
            f"entities.prediction_time >= {view.name}.available_at"
            for view in views
        )
        sql = f"SELECT {columns} FROM given.entities AS entities {joins}"
        if order:
            sql += f" ORDER BY {', '.join(f'entities.{column}' for column in order)}"
        return self.query(sql, as_of=as_of, since=since, given={**(given or {}), "given.entities": entities})


class _Lazy:
    """What both kinds of relations share."""

    schema: pa.Schema

    def compute(self) -> Iterator[pa.RecordBatch]:
        raise NotImplementedError

    @cached_property
    def stored(self) -> Spool:
        return Spool(self.schema, self.compute())

    def count(self) -> int:
        return self.stored.rows

    def batches(self) -> Iterator[pa.RecordBatch]:
        return self.stored.batches() if "stored" in vars(self) else self.compute()

    def arrow(self) -> pa.Table:
        return pa.Table.from_batches(self.batches(), self.schema)

    def map(self, function: BatchFunction, schema: pa.Schema) -> "Mapped":
        return Mapped(self, function, schema)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.arrow().__arrow_c_stream__(requested_schema)


class Query(_Lazy):
    """The answer to one SELECT over tables as they were when it was asked."""

    def __init__(self, memory_limit: str, sql: str, tables: Sequence[_Table]) -> None:
        self._memory_limit = memory_limit
        self._sql = sql
        self._tables = tables

    @cached_property
    def schema(self) -> pa.Schema:
        with self._run(f"SELECT * FROM ({self._sql}\n) LIMIT 0") as result:
            return result.to_arrow_table().schema

    def count(self) -> int:
        if "stored" in vars(self):
            return super().count()
        with self._run(f"SELECT count(*) FROM ({self._sql}\n)") as result:
            return int(result.fetchall()[0][0])

    def compute(self) -> Iterator[pa.RecordBatch]:
        with self._run(self._sql) as result:
            yield from result.to_arrow_reader(BATCH)

    def arrow(self) -> pa.Table:
        if "stored" in vars(self):
            return super().arrow()
        with self._run(self._sql) as result:
            return result.to_arrow_table()

    @contextmanager
    def _run(self, sql: str) -> Iterator[Any]:
        """What `sql` gives, still to be fetched; nothing of what it was shown stays behind."""
        idle = _IDLE[self._memory_limit]
        database = idle.pop() if idle else _database(self._memory_limit)
        connection = database.cursor()
        connection.begin()
        try:
            with _told(sql, self._tables):
                for name, source, shown in self._tables:
                    raw = _register(connection, name.replace(".", "__"), source)
                    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name.partition('.')[0]}")
                    connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {raw} WHERE {shown}")
                try:
                    result = connection.sql(sql)
                except (duckdb.BinderException, duckdb.CatalogException):
                    connection.execute(sql)  # raises it again, with the line
                    raise
                yield result
        finally:
            connection.rollback()
            connection.close()
            idle.append(database)


class Mapped(_Lazy):
    """What a function makes of each batch of another relation."""

    def __init__(self, rows: _Lazy, function: BatchFunction, schema: pa.Schema) -> None:
        self.schema = schema
        self._rows = rows
        self._function = function

    def compute(self) -> Iterator[pa.RecordBatch]:
        return map(self._function, self._rows.batches())


# Databases that no query is using: each query has one to itself, and to make one takes longer than most queries.
_IDLE: dict[str, list[duckdb.DuckDBPyConnection]] = defaultdict(list)


def _database(memory_limit: str) -> duckdb.DuckDBPyConnection:
    """A database in memory that knows the dialect."""
    spill = Path(tempfile.gettempdir(), f"mlplatform-{uuid.uuid4().hex}")  # there only while it is needed
    database = duckdb.connect(config={"memory_limit": memory_limit, "temp_directory": str(spill)})
    database.execute("SET GLOBAL TimeZone = 'UTC'")  # of each cursor, too: a plain SET is this connection's alone
    database.execute(resources.files(__package__).joinpath("dialect.sql").read_text(encoding="utf-8"))
    return database


def _register(connection: duckdb.DuckDBPyConnection, name: str, source: Rows | Snapshot) -> str:
    """Make a source known to DuckDB; returns what to select from."""
    if isinstance(source, Snapshot) and source.files and scheme(source.uri):
        connection.register(name, source.dataset())  # DuckDB opens no address by itself
        return name
    files = source.files if isinstance(source, Snapshot) else ()
    if isinstance(source, _Lazy | Spool):
        files = (str((source if isinstance(source, Spool) else source.stored).path),)
    if files:
        # A column that came later is null in older files. DuckDB takes * and ? in a name for patterns.
        named = ", ".join("'" + re.sub(r"([*?])", r"[\1]", file).replace("'", "''") + "'" for file in files)
        return f"read_parquet([{named}], union_by_name = true)"
    connection.register(name, source if isinstance(source, pa.Table) else source.schema.empty_table())
    return name


@contextmanager
def _told(sql: str, tables: Sequence[_Table] = ()) -> Iterator[None]:
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise QueryError(f"lakehouse.memory_limit is too small for this query: {error}\n{sql}") from error
    except (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException) as error:
        raise QueryError(located(sql, _UNKNOWN_TABLE.sub(_no_such_table, str(error)))) from error
    except duckdb.Error as error:
        read = ", ".join(source.uri for _, source, _ in tables if isinstance(source, Snapshot))
        told = f"{error}{f'{chr(10)}Tables that were read: {read}' if read else ''}"
        raise QueryError(located(sql, told)) from error


# DuckDB proposes tables of its own, and those that it was shown for this query.
_UNKNOWN_TABLE = re.compile(r'Catalog Error: Table with name "?([\w.]+)"? does not exist[^\n]*(\nDid you mean [^\n]*)?')


def _no_such_table(found: re.Match[str]) -> str:
    schema, dot, _ = found[1].partition(".")
    if schema in SCHEMAS:  # or the engine had looked for it
        return f"there is no table {found[1]}: the name of a table stands as it is, in no quotes"
    meant = suggestion(schema, list(SCHEMAS[:-1])) if dot else ": a table is <schema>.<table>, such as silver.items"
    return f"there is no table {found[1]}{meant}"


def _fresh(view: View, column: str) -> str:
    """SQL for a column of a view, null where the row has outlived the view's time to live."""
    age = f"epoch(entities.prediction_time) - epoch({view.name}.event_timestamp)"
    return f"CASE WHEN {age} <= {view.ttl} THEN {view.name}.{column} END"


def _latest_known(view: View) -> str:
    """The rows of a feature view that were, when they became available, the latest event known of their entity.

    ASOF joins leave ties to chance, and a row that arrives late must not hide a newer event. A table that marks such
    rows saves finding them, which takes longer than the join.
    """
    rows = f"SELECT * FROM features.{view.name}"
    if view.marked:
        return f"{rows} WHERE superseded IS NOT TRUE"
    return f"{rows} QUALIFY event_timestamp >= {newest_known(view.keys)}"
