"""What sources send to Bronze, as received; what cannot be used of it goes to quarantine, with the reason."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import Any

import polars as pl
import pyarrow as pa

from mlplatform.config.sections import LakehouseSettings
from mlplatform.contract import Database, Source
from mlplatform.environment import Environment, Run
from mlplatform.errors import ContractError
from mlplatform.storage import landing, ops
from mlplatform.storage.catalog import Among, Spool, quoted
from mlplatform.storage.landing import Delivery, LandedFile

_NOT_TAKEN = "not taken: "
_PART = 10_000  # refused lines in memory at once
_NOW = timedelta(minutes=10)  # what is in a database now stands for what was there so long ago
_Known = dict[str, list[dict[str, Any]]]  # what has been read under a file's name, oldest first


def load_bronze(env: Environment, run: Run) -> None:
    """Append what has newly landed, source by source; raises ContractError where too much of it is bad."""
    landed = landing.look(env.landing, env.project.sources, run.as_of)
    known = _known(env)
    _name_strangers(env, run, {name: why for name, why in landed.strangers.items() if name not in known})
    for source in env.project.sources:
        if isinstance(source.format, Database):
            _load_database(env, run, source)
            continue
        found = [d for file in landed.files[source.name] if (d := _new(env, run, source, file, known))]
        if found:
            _load(env, run, source.name, found)


def stop_if_too_many(settings: LakehouseSettings, table: str, total: int, refused: Mapping[str, int]) -> None:
    """Raise ContractError where more than the tolerated share of `total` rows is refused (counted by reason)."""
    count, limit = sum(refused.values()), settings.max_refused_share
    if count <= max(limit * total, settings.tolerated_rows):
        return
    often = sorted(refused.items(), key=lambda item: -item[1])[:3]
    detail = "; ".join(f"{times:,} x {reason}" for reason, times in often)
    raise ContractError(
        f"{table}: {count:,} of {total:,} rows would be refused, more than lakehouse.max_refused_share = "
        f"{limit:g}: {detail}. The table is unchanged; fix the source or its SQL, or raise the share, and run again"
    )


def _load(env: Environment, run: Run, source: str, found: list[Delivery]) -> None:
    bronze, files = f"bronze.{source}", Among("source_file", [delivery.name for delivery in found])
    reasons: Counter[str] = Counter()
    for delivery in found:
        reasons.update({delivery.error: delivery.refused} if delivery.error else [why for _, why, _ in delivery.bad])
        if delivery.error:
            run.note(f"{delivery.name}: {delivery.error} ({ops.QUARANTINE}{source})")
    good = [delivery for delivery in found if delivery.rows and not delivery.error]
    stop_if_too_many(env.config.lakehouse, bronze, sum(d.rows for d in good) + reasons.total(), reasons)
    if reasons:
        schema = ops.SCHEMAS[ops.QUARANTINE]
        refused = Spool(schema, _quarantined(found))
        run.wrote(ops.QUARANTINE + source, env.catalog.replace(ops.QUARANTINE + source, refused, files))
    if good:
        schema = _schema(good, _spelt(env, bronze))
        arrived = Spool(schema, _rows(good, schema))
        run.wrote(bronze, env.catalog.replace(bronze, arrived, files))
    env.catalog.append(ops.FILES, ops.rows(ops.FILES, map(_entry, found)))


def _new(env: Environment, run: Run, source: Source, file: LandedFile, known: _Known) -> Delivery | None:
    """What a file holds if it has not been read yet. One that has changed since is read again, under a name of its own:
    what it had before is known already, and what is new is not lost."""
    versions = [entry for entry in known.get(file.name, ()) if not str(entry["error"]).startswith(_NOT_TAKEN)]
    name = f"{file.name}#{len(versions) + 1}" if versions else file.name
    try:
        if versions and not _has_changed(file, versions[-1]):
            return None
        delivery = landing.inspect(file, source, env.config.lakehouse.settle, name)
    except OSError as error:
        run.note(f"{file.name} cannot be read: {error.strerror}")
        return None
    if delivery is None:
        run.note(f"{file.name} is still being written, or its end is missing: it waits")
    elif versions:
        run.note(f"{file.name} has changed since it was read: it is read again, as {name}")
    return delivery


def _known(env: Environment) -> _Known:
    known: _Known = {}
    entries = pl.DataFrame(env.catalog.read(ops.FILES, ["source_file", "error", "size", "modified", "digest"]))
    for entry in entries.sort("modified", maintain_order=True).iter_rows(named=True):  # those without a time first
        name = entry["source_file"]
        if not str(entry["error"]).startswith(_NOT_TAKEN):
            name = re.sub(r"#\d+$", "", name)
        known.setdefault(name, []).append(entry)
    return known


def _name_strangers(env: Environment, run: Run, strangers: dict[str, str]) -> None:
    """Say once what is no delivery."""
    rows = []
    for name, reason in strangers.items():
        run.note(f"{name} is not taken: {reason}")
        rows.append(
            {"source_file": name, "landed_at": run.as_of, "rows": 0, "malformed": 0, "error": _NOT_TAKEN + reason}
        )
    if rows:
        env.catalog.append(ops.FILES, ops.rows(ops.FILES, rows))


def _has_changed(file: LandedFile, entry: dict[str, Any]) -> bool:
    """Whether a file holds something else than what was read; earlier releases did not keep what that was."""
    return entry["digest"] is not None and landing.changed(file, entry["size"], entry["modified"], entry["digest"])


def _entry(delivery: Delivery) -> dict[str, Any]:
    return {
        "source_file": delivery.name,
        "landed_at": delivery.file.landed_at,
        "rows": delivery.rows,
        "malformed": delivery.refused,
        "error": delivery.error,
        "size": delivery.size,
        "modified": delivery.modified,
        "digest": delivery.digest,
    }


def _quarantined(found: list[Delivery]) -> Iterator[pa.RecordBatch]:
    schema = ops.SCHEMAS[ops.QUARANTINE]
    for delivery in found:
        lines = delivery.refused_lines()
        while part := list(islice(lines, _PART)):
            rows = [(delivery.name, *line, delivery.file.landed_at) for line in part]
            yield pa.RecordBatch.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema)


def _spelt(env: Environment, table: str) -> dict[str, str]:
    """How a table spells its columns, by their names in small letters: it does not tell `Note` from `note`."""
    names = env.catalog.snapshot(table).schema.names if env.catalog.exists(table) else []
    return {name.lower(): name for name in names}


def _schema(found: list[Delivery], spelt: Mapping[str, str]) -> pa.Schema:
    """The columns of all, each as it was spelt first."""
    fields = {field.name.lower(): field for delivery in found for field in delivery.schema or ()}
    return pa.schema([field.with_name(spelt.get(name, field.name)) for name, field in fields.items()])


def _rows(found: list[Delivery], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of all, with all columns: a column that a file lacks is null."""
    for delivery in found:
        for batch in delivery.batches():
            nothing, have = pa.nulls(batch.num_rows, pa.string()), [name.lower() for name in batch.schema.names]
            at = [have.index(name.lower()) if name.lower() in have else None for name in schema.names]
            columns = [nothing if number is None else batch[number] for number in at]
            yield pa.record_batch(columns, schema=schema)


def _load_database(env: Environment, run: Run, source: Source) -> None:
    """Append the rows that Bronze does not have yet; raises ContractError where too many of them are bad.

    A row is told by its values: read again it adds nothing, changed it is another row.
    """
    from mlplatform.storage import database  # SQLAlchemy takes long to import

    kind, bronze, quarantine = source.format, f"bronze.{source.name}", f"{ops.QUARANTINE}{source.name}"
    assert isinstance(kind, Database)
    now = ops.now()
    if not kind.watermark and run.as_of < now - _NOW:
        unknown = f"without a watermark nobody knows what was there at {run.as_of}: name one, or run without --as-of"
        run.note(f"source {source.name} is not read: {unknown}")
        return
    newest = _newest(env, source.name) if kind.watermark else None
    since = newest - kind.overlap if newest else None
    batches = database.read(source, since, run.as_of)
    first = next(batches)
    read = Spool(first.schema, chain([first], batches))
    columns = [name for name in read.schema.names if name not in ("source_row", "landed_at", database.REFUSED)]
    name = _source_file(env, run, source.name)

    there = _spelt(env, bronze)
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
        f"FROM given.read AS r {unknown} WHERE r.{database.REFUSED} IS NULL",
        given={"given.read": read},
    )
    unknown = f"ANTI JOIN {quarantine} AS q ON q.raw = r.{database.REFUSED}" if env.catalog.exists(quarantine) else ""
    reason = f"{kind.watermark} is no time"
    refused = env.engine.query(
        f"SELECT '{name}' AS source_file, r.source_row, '{reason}' AS reason, r.{database.REFUSED} AS raw, "
        f"TIMESTAMP '{run.as_of}' AS available_at FROM given.read AS r {unknown} "
        f"WHERE r.{database.REFUSED} IS NOT NULL",
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


def _source_file(env: Environment, run: Run, source: str) -> str:
    """The source_file of what is read now, which no row has yet."""
    name = f"{source}@{run.as_of:%Y%m%dT%H%M%SZ}"
    tables = [table for table in (f"bronze.{source}", f"{ops.QUARANTINE}{source}") if env.catalog.exists(table)]
    union = " UNION ".join(f"SELECT source_file FROM {table} WHERE source_file LIKE '{name}%'" for table in tables)
    read = env.engine.query(union).count() if union else 0
    return f"{name}#{read + 1}" if read else name
