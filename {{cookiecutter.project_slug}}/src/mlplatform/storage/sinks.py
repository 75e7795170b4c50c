"""Where rows go beside their table: files and databases, day by day. Putting a day there again changes nothing."""

import io
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import sqlalchemy as sa

from mlplatform.config.sections import Sink as Settings
from mlplatform.storage import address, database

DAY = timedelta(days=1)


class Sink(Protocol):
    """Keeps the rows of days, and the version of the table up to which it has them."""

    def reached(self) -> int | None:
        """That version; None where nothing was put there."""

    def put(self, day: datetime, rows: pa.Table) -> None:
        """Put the rows of one day in the place of those that were there: all at once, or not at all."""

    def reach(self, version: int) -> None:
        """Remember that all of a version is there."""


def open_sink(folder: Path, settings: Settings, owner: str, keys: Sequence[str], time: str) -> Sink:
    """A sink for the rows of the environment `owner`, told apart by `keys`, whose days are those of the column `time`.

    Raises UserError where the variable of a database is not set or its driver not installed.
    """
    if settings.kind == "database":
        return DatabaseSink(settings.to, settings.table, owner, keys, time)
    return FileSink(address.place(folder, settings.to, "pipelines.inference.sinks") / owner, settings.kind)


class FileSink:
    """`<place>/<day>.parquet`, or `.csv`."""

    def __init__(self, place: address.Place, kind: str) -> None:
        self._place, self._kind = place, kind
        self._state = place / "published.json"

    def reached(self) -> int | None:
        state = address.read(self._state)
        return int(json.loads(state)["version"]) if state else None

    def put(self, day: datetime, rows: pa.Table) -> None:
        write = pa.parquet.write_table if self._kind == "parquet" else pa.csv.write_csv
        write(rows, content := io.BytesIO())
        address.put(self._place / f"{day:%Y-%m-%d}.{self._kind}", content.getvalue())

    def reach(self, version: int) -> None:
        address.put(self._state, json.dumps({"version": version}).encode())


class DatabaseSink:
    """A table whose primary key is `environment` and the keys; it is made, and gets new columns, as they come."""

    def __init__(self, variable: str, table: str, owner: str, keys: Sequence[str], time: str) -> None:
        self._where, self._variable, self._table = "pipelines.inference.sinks", variable, table
        self._owner, self._keys, self._time = owner, keys, time
        with self._told():
            self._engine = sa.create_engine(database.address(self._where, variable), poolclass=sa.NullPool)
        columns = sa.Column("environment", sa.String(20), primary_key=True), sa.Column("version", sa.BigInteger)
        self._state = sa.Table(f"{table}_published", sa.MetaData(), *columns)

    def reached(self) -> int | None:
        mine = self._state.c.environment == self._owner
        with self._told(), self._engine.begin() as connection:
            self._state.create(connection, checkfirst=True)
            version = connection.scalar(sa.select(self._state.c.version).where(mine))
        return None if version is None else int(version)

    def put(self, day: datetime, rows: pa.Table) -> None:
        columns = [sa.Column(f.name, _type(f.type), primary_key=f.name in self._keys) for f in rows.schema]
        environment = sa.Column("environment", sa.String(20), primary_key=True)
        table = sa.Table(self._table, sa.MetaData(), environment, *columns)
        mine, time = table.c.environment == self._owner, table.c[self._time]
        same = [table.c[key] == sa.bindparam(f"key_{key}") for key in self._keys]
        values = [{"environment": self._owner, **row} for row in rows.to_pylist()]
        with self._told(), self._engine.begin() as connection:
            table.create(connection, checkfirst=True)
            self._add_columns(connection, table)
            connection.execute(sa.delete(table).where(mine, time >= day, time < day + DAY))
            if values:  # a key may have been there with another day
                keys = [{f"key_{key}": row[key] for key in self._keys} for row in values]
                connection.execute(sa.delete(table).where(mine, *same), keys)
                connection.execute(sa.insert(table), values)

    def reach(self, version: int) -> None:
        with self._told(), self._engine.begin() as connection:
            connection.execute(sa.delete(self._state).where(self._state.c.environment == self._owner))
            connection.execute(sa.insert(self._state).values(environment=self._owner, version=version))

    def _add_columns(self, connection: Any, table: Any) -> None:
        there = {column["name"] for column in sa.inspect(connection).get_columns(self._table)}
        dialect = connection.dialect
        for column in (column for column in table.columns if column.name not in there):
            name = dialect.identifier_preparer.quote(column.name)
            kind = column.type.compile(dialect)
            connection.execute(
                sa.text(f"ALTER TABLE {dialect.identifier_preparer.quote(self._table)} ADD {name} {kind}")
            )

    def _told(self) -> Any:
        return database.told(self._where, self._variable)


def _type(kind: pa.DataType) -> Any:
    """The SQL type that holds values of an Arrow type."""
    if pa.types.is_decimal(kind):
        return sa.Numeric(kind.precision, kind.scale)
    known = (
        (pa.types.is_boolean, sa.Boolean),
        (pa.types.is_integer, sa.BigInteger),
        (pa.types.is_floating, sa.Double),
        (pa.types.is_timestamp, sa.DateTime),
        (pa.types.is_date, sa.Date),
    )
    return next((made for holds, made in known if holds(kind)), sa.Text)()
