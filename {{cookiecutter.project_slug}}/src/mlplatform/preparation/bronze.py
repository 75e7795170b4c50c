"""Landing files to Bronze as received; lines and files that cannot be used go to quarantine, with the reason."""

import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

import pyarrow as pa

from mlplatform.contract import Database, Source
from mlplatform.environment import Environment, Run
from mlplatform.preparation.contracts import stop_if_too_many
from mlplatform.preparation.database import load_database
from mlplatform.storage import deliveries, landing, ops
from mlplatform.storage.catalog import Among, Spool
from mlplatform.storage.deliveries import Delivery
from mlplatform.storage.landing import LandedFile

_NOT_TAKEN = "not taken: "
_PART = 10_000  # refused lines in memory at once
_Known = dict[str, list[dict[str, Any]]]  # what has been read under a file's name, oldest first


def load_bronze(env: Environment, run: Run) -> None:
    """Append what has newly landed, source by source; raises ContractError where too much of it is bad."""
    landed = landing.look(env.landing, env.project.sources, run.as_of)
    known = _known(env)
    _name_strangers(env, run, {name: why for name, why in landed.strangers.items() if name not in known})
    for source in env.project.sources:
        if isinstance(source.format, Database):
            load_database(env, run, source)
            continue
        found = [d for file in landed.files[source.name] if (d := _new(env, run, source, file, known))]
        if found:
            _load(env, run, source.name, found)


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
        spelt = env.catalog.snapshot(bronze).schema.names if env.catalog.exists(bronze) else []
        schema = _schema(good, spelt)
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
        delivery = deliveries.inspect(file, source, env.config.lakehouse.settle, name)
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
    entries = env.catalog.read(ops.FILES, ["source_file", "error", "size", "modified", "digest"]).to_pylist()
    for entry in sorted(entries, key=lambda entry: entry["modified"] or datetime.min):
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
    return entry["digest"] is not None and deliveries.changed(file, entry["size"], entry["modified"], entry["digest"])


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


def _schema(found: list[Delivery], spelt: list[str]) -> pa.Schema:
    """The columns of all, each as it was spelt first: a table does not tell `Note` from `note`."""
    fields = {field.name.lower(): field for delivery in found for field in delivery.schema or ()}
    names = {name.lower(): name for name in spelt}
    return pa.schema([field.with_name(names.get(name, field.name)) for name, field in fields.items()])


def _rows(found: list[Delivery], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of all, with all columns: a column that a file lacks is null."""
    for delivery in found:
        for batch in delivery.batches():
            nothing, have = pa.nulls(batch.num_rows, pa.string()), [name.lower() for name in batch.schema.names]
            at = [have.index(name.lower()) if name.lower() in have else None for name in schema.names]
            columns = [nothing if number is None else batch[number] for number in at]
            yield pa.record_batch(columns, schema=schema)
