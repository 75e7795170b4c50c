"""Retention: rows that have outlived their environment's limit are deleted, and small files merged."""

from datetime import datetime, timedelta

from mlplatform.environment import Environment, Run
from mlplatform.storage import ops
from mlplatform.storage.catalog import Among, Window


def expire(env: Environment, as_of: datetime) -> Run:
    """Delete what is older than `lakehouse.expire_after` at `as_of`; without that setting, only merge files.

    Rows that came in a file go by when the file landed: what is left of Bronze and Silver still belongs together,
    and `ingest` does not take gone rows for new ones. The audit tables in `ops` stay whole.
    """
    limit = env.config.lakehouse.expire_after
    with env.run("expire", as_of) as run:
        for name in env.catalog.names():
            old = _older(env, name, as_of - limit) if limit else None
            if old:
                run.wrote(name, env.catalog.delete(name, old))
            env.catalog.compact(name)
        return run


def _older(env: Environment, name: str, time: datetime) -> Window | Among | None:
    """The rows of a table that are older than `time`; None for tables that stay."""
    columns, before = env.catalog.snapshot(name).schema.names, time - timedelta.resolution
    if name.startswith("ops."):
        return None
    if "source_file" in columns:
        landed = env.catalog.read(ops.FILES, ["source_file"], Window("landed_at", until=before))
        gone = landed["source_file"].to_pylist()
        return Among("source_file", gone) if gone else None
    age = next((column for column in ("available_at", "prediction_time") if column in columns), None)
    return Window(age, until=before) if age else None
