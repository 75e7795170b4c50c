"""Rows of a database to Bronze, each once."""

from datetime import UTC, datetime, timedelta
from itertools import chain

from mlplatform.contract import Database, Source
from mlplatform.environment import Environment, Run
from mlplatform.preparation.contracts import stop_if_too_many
from mlplatform.storage import database, ops
from mlplatform.storage.catalog import Spool, quoted
from mlplatform.storage.database import REFUSED

_OURS = ("source_row", "landed_at", REFUSED)
_NOW = timedelta(minutes=10)  # what is there now stands for what was there so long ago


def load_database(env: Environment, run: Run, source: Source) -> None:
    """Append the rows that Bronze does not have yet; raises ContractError where too many of them are bad.

    A row is told by its values: read again it adds nothing, changed it is another row.
    """
    kind, bronze, quarantine = source.format, f"bronze.{source.name}", f"{ops.QUARANTINE}{source.name}"
    assert isinstance(kind, Database)
    now = datetime.now(UTC).replace(tzinfo=None)
    if not kind.watermark and run.as_of < now - _NOW:
        unknown = f"without a watermark nobody knows what was there at {run.as_of}: name one, or run without --as-of"
        run.note(f"source {source.name} is not read: {unknown}")
        return
    newest = _newest(env, source.name) if kind.watermark else None
    since = newest - kind.overlap if newest else None
    batches = database.read(source, since, run.as_of)
    first = next(batches)
    read = Spool(first.schema, chain([first], batches))
    columns = [name for name in read.schema.names if name not in _OURS]
    name = _name(env, run, source.name)

    spelt = env.catalog.snapshot(bronze).schema.names if env.catalog.exists(bronze) else []
    there = {column.lower(): column for column in spelt}
    same = " AND ".join(
        f"r.{quoted(column)} IS NOT DISTINCT FROM "
        + (f"b.{quoted(there[column.lower()])}" if column.lower() in there else "NULL")
        for column in columns
    )
    after = f"WHERE landed_at >= TIMESTAMP '{since}'" if since else ""
    unknown = f"ANTI JOIN (SELECT * FROM {bronze} {after}) AS b ON {same}" if there else ""
    texts = ", ".join(f"r.{quoted(column)} AS {quoted(there.get(column.lower(), column))}" for column in columns)
    new = env.engine.query(
        f"SELECT {texts}, '{name}' AS source_file, r.source_row, r.landed_at, TIMESTAMP '{now}' AS ingested_at "
        f"FROM given.read AS r {unknown} WHERE r.{REFUSED} IS NULL",
        given={"given.read": read},
    )
    unknown = f"ANTI JOIN {quarantine} AS q ON q.raw = r.{REFUSED}" if env.catalog.exists(quarantine) else ""
    reason = f"{kind.watermark} is no time"
    refused = env.engine.query(
        f"SELECT '{name}' AS source_file, r.source_row, '{reason}' AS reason, r.{REFUSED} AS raw, "
        f"TIMESTAMP '{run.as_of}' AS available_at FROM given.read AS r {unknown} WHERE r.{REFUSED} IS NOT NULL",
        given={"given.read": read},
    )
    good, bad = new.count(), refused.count()
    stop_if_too_many(env.config.lakehouse, bronze, good + bad, {reason: bad} if bad else {})
    if bad:
        run.wrote(quarantine, env.catalog.append(quarantine, refused))
    if good:
        run.wrote(bronze, env.catalog.append(bronze, new))


def _newest(env: Environment, source: str) -> datetime | None:
    """The latest time of the rows that were read from the database: Bronze may hold some of files, too."""
    if not env.catalog.exists(f"bronze.{source}"):
        return None
    sql = f"SELECT max(landed_at) AS at FROM bronze.{source} WHERE source_file LIKE '{source}@%'"
    newest: datetime | None = env.engine.query(sql).arrow()["at"][0].as_py()
    return newest


def _name(env: Environment, run: Run, source: str) -> str:
    """The source_file of what is read now, which no row has yet."""
    name = f"{source}@{run.as_of:%Y%m%dT%H%M%SZ}"
    tables = [table for table in (f"bronze.{source}", f"{ops.QUARANTINE}{source}") if env.catalog.exists(table)]
    union = " UNION ".join(f"SELECT source_file FROM {table} WHERE source_file LIKE '{name}%'" for table in tables)
    read = env.engine.query(union).count() if union else 0
    return f"{name}#{read + 1}" if read else name
