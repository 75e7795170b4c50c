"""Retention: rows that have outlived their environment's limit are deleted, and small files merged."""

from datetime import datetime

import pyarrow.compute as pc

from mlplatform.environment import Environment, Run
from mlplatform.storage.landing import LEDGER


def expire(env: Environment, as_of: datetime) -> Run:
    """Delete what is older than `lakehouse.expire_after` at `as_of`; without that setting, only merge files.

    Rows that came in a file go by when the file landed: what is left of Bronze and Silver still belongs together,
    and `ingest` does not take gone rows for new ones. The audit tables in `ops` stay whole.
    """
    limit = env.config.lakehouse.expire_after
    with env.run("expire", as_of) as run:
        for name in env.tables.names():
            where = _older(env, name, as_of - limit) if limit else ""
            if where:
                run.wrote(name, env.tables.delete(name, where))
            env.tables.compact(name)
        return run


def _older(env: Environment, name: str, time: datetime) -> str:
    """The SQL predicate of the rows of a table that are older than `time`; none for tables that stay."""
    columns = env.tables.schema(name).names
    if name.startswith("ops."):
        return ""
    if "source_file" in columns:
        gone = env.tables.read(LEDGER, ["source_file"], pc.field("landed_at") < time)["source_file"].to_pylist()
        return f"source_file IN ({', '.join(repr(file) for file in gone)})" if gone else ""
    age = next((column for column in ("available_at", "prediction_time") if column in columns), None)
    return f"{age} < '{time}'" if age else ""
