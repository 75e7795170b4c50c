"""Maintain: keep tables quick to open, and as large as what they hold, however often they are written."""

from datetime import datetime, timedelta

from mlplatform.environment import Environment, Run
from mlplatform.storage import ops
from mlplatform.storage.catalog import Among, Window


def maintain(env: Environment, as_of: datetime) -> Run:
    """Delete rows older than `lakehouse.expire_after` at `as_of`, merge small files, and delete what only versions of
    tables older than `lakehouse.keep_versions` need, on the wall clock: whoever reads meanwhile keeps its files.

    Rows that came in a file go by when the file landed: what is left of Bronze and Silver still belongs together,
    and `ingest` does not take gone rows for new ones. The audit tables in `ops` stay whole.
    """
    settings = env.config.lakehouse
    with env.run("maintain", as_of) as run:
        for name in env.catalog.names():
            old = _older(env, name, as_of - settings.expire_after) if settings.expire_after else None
            if old and (deleted := env.catalog.delete(name, old)):
                run.note(f"{name}: {deleted:,} rows expired")
            env.catalog.compact(name, settings.keep_versions)
        return run


def _older(env: Environment, name: str, time: datetime) -> Window | Among | None:
    """The rows of a table that are older than `time`; None for tables that stay, or have none."""
    columns, before = env.catalog.snapshot(name).schema.names, time - timedelta.resolution
    if name.startswith("ops."):
        return None
    if "landed_at" in columns:
        return Window("landed_at", until=before)
    if "source_file" in columns:
        gone = env.catalog.read(ops.FILES, ["source_file"], Window("landed_at", until=before))
        here = f"SELECT DISTINCT source_file FROM {name} SEMI JOIN given.gone USING (source_file)"
        files = env.engine.query(here, given={"given.gone": gone}).arrow()["source_file"].to_pylist()
        return Among("source_file", files) if files else None
    age = next((column for column in ("available_at", "prediction_time") if column in columns), None)
    return Window(age, until=before) if age else None
