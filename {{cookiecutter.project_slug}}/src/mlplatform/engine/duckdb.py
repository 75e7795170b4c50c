"""The local engine: Spark SQL's shared dialect on DuckDB, over Delta tables as they were known at a time."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from importlib import resources
from threading import get_ident

import duckdb
import pyarrow as pa

from mlplatform.errors import ForbiddenError, MissingTableError
from mlplatform.storage.delta import Source

SCHEMAS = ("bronze", "silver", "quarantine", "features", "predictions", "monitoring", "ops", "given")
_QUALIFIED_NAME = re.compile(rf"\b({'|'.join(SCHEMAS)})\.([a-z_]\w*)")
Find = Callable[[str], Source | None]


class DuckDb:
    """Answers SQL over `schema.table` names, which `find` resolves to Parquet files (None: no such table)."""

    def __init__(self, find: Find = lambda name: None, *, memory_limit: str = "1GB") -> None:
        self._find = find
        self._memory_limit = memory_limit

    def query(
        self,
        sql: str,
        *,
        as_of: datetime | None = None,
        since: datetime | None = None,
        given: Mapping[str, pa.Table] | None = None,
    ) -> pa.Table:
        """The result of `sql` as an Arrow table.

        With `as_of` (naive UTC) every table that has `available_at` shows only rows available by then; with `since`
        only rows that became available later. Tables in `given` stand in for stored ones; those named `given.<table>`
        are shown whole. Raises ForbiddenError for anything but one query: a statement such as COPY could write where
        this environment must not.
        """
        if [statement.type for statement in duckdb.extract_statements(sql)] != [duckdb.StatementType.SELECT]:
            raise ForbiddenError("only one SELECT at a time is run here: tables are written by the pipelines")
        with self._tables_of(sql, as_of, since, given or {}) as connection:
            return connection.sql(sql).to_arrow_table()

    def point_in_time(
        self,
        spine: pa.Table,
        views: Sequence[tuple[str, Sequence[str], int, Sequence[str]]],
        *,
        as_of: datetime,
        since: datetime | None = None,
        given: Mapping[str, pa.Table] | None = None,
    ) -> pa.Table:
        """Join to each row of `spine` the newest feature values that were available at its `prediction_time`.

        A view is (name, entity keys, time to live in seconds, feature columns). Of the rows of a view available at
        the prediction time the one with the latest `event_timestamp` counts; older than its time to live, it is
        null. Columns are named `<view>__<column>`; `feature_time` is the latest event time that was used.
        """
        times = [f"CASE WHEN {_age(view)} <= {ttl} THEN {view}.event_timestamp END" for view, _, ttl, _ in views]
        sql = "SELECT spine.*, " + ", ".join(
            [
                f'CASE WHEN {_age(view)} <= {ttl} THEN {view}."{column}" END AS "{view}__{column}"'
                for view, _, ttl, columns in views
                for column in columns
            ]
            + [f"greatest({', '.join(['NULL::TIMESTAMP', *times])}) AS feature_time"]
        )
        sql += " FROM given.spine AS spine " + " ".join(
            f"ASOF LEFT JOIN ({_latest_known(view, keys)}) AS {view} "
            f"ON {' AND '.join(f'spine.{key} = {view}.{key}' for key in keys)} "
            f"AND spine.prediction_time >= {view}.available_at"
            for view, keys, _, _ in views
        )
        return self.query(sql, as_of=as_of, since=since, given={**(given or {}), "given.spine": spine})

    @contextmanager
    def _tables_of(
        self, sql: str, as_of: datetime | None, since: datetime | None, given: Mapping[str, pa.Table]
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that sees the tables named in `sql`, as they are now; nothing of them stays behind."""
        connection = _database(self._memory_limit, get_ident()).cursor()
        connection.begin()
        try:
            self._create_views(connection, sql, as_of, since, given)
            yield connection
        finally:
            connection.rollback()
            connection.close()

    def _create_views(
        self,
        connection: duckdb.DuckDBPyConnection,
        sql: str,
        as_of: datetime | None,
        since: datetime | None,
        given: Mapping[str, pa.Table],
    ) -> None:
        for schema, table in sorted(set(_QUALIFIED_NAME.findall(sql.lower()))):
            name = f"{schema}.{table}"
            source = given[name] if name in given else self._find(name)
            if source is None:
                raise MissingTableError(
                    f"there is no table {name} here yet: `sql` without a question lists those there are"
                )
            raw = _register(connection, f"{schema}__{table}", source)
            conditions = [
                f"available_at {operator} TIMESTAMP '{limit}'"
                for operator, limit in (("<=", as_of), (">", since))
                if limit is not None and schema != "given" and "available_at" in source.schema.names
            ]
            where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {raw}{where}")


@cache
def _database(memory_limit: str, thread: int) -> duckdb.DuckDBPyConnection:
    """A database in memory that knows the dialect, one per `thread`: to make it takes longer than most queries."""
    database = duckdb.connect(config={"memory_limit": memory_limit})
    database.execute("SET TimeZone = 'UTC'")
    database.execute(resources.files(__package__).joinpath("dialect.sql").read_text(encoding="utf-8"))
    return database


def _register(connection: duckdb.DuckDBPyConnection, name: str, source: pa.Table | Source) -> str:
    """Make a source known to DuckDB; returns what to select from."""
    if isinstance(source, Source) and source.files:
        # A column that came later is null in older files.
        return f"read_parquet({list(source.files)!r}, union_by_name = true)"
    connection.register(name, source.schema.empty_table() if isinstance(source, Source) else source)
    return name


def _age(view: str) -> str:
    return f"epoch(spine.prediction_time) - epoch({view}.event_timestamp)"


def _latest_known(view: str, keys: Sequence[str]) -> str:
    """The rows of a feature view that were, when they became available, the latest event known of their entity.

    ASOF joins leave ties to chance, and a row that arrives late must not hide a newer event: so one row is kept
    for each entity and `available_at`, and none that is older than one known before it.
    """
    entity = ", ".join(keys)
    return (
        f"SELECT * FROM features.{view} QUALIFY event_timestamp >= max(event_timestamp) OVER "
        f"(PARTITION BY {entity} ORDER BY available_at, event_timestamp ROWS UNBOUNDED PRECEDING) "
        f"AND row_number() OVER (PARTITION BY {entity}, available_at ORDER BY event_timestamp DESC) = 1"
    )
