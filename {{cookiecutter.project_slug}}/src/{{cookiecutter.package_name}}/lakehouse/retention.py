"""Retention: rows that have outlived their environment's limit are deleted, and small files merged."""

from datetime import datetime

from ..environment import Environment, Run
from .settings import Settings

# The first of these columns that a table has says how old a row is. Tables with none, such as the audit of
# stages, stay whole.
_AGES = ("available_at", "landed_at", "prediction_time")


def expire(env: Environment, as_of: datetime) -> Run:
    """Delete rows older than `lakehouse.expire_after` at `as_of`; without that setting, only merge files."""
    limit = env.settings(Settings).expire_after
    with env.run("expire", as_of) as run:
        for name in env.tables.names():
            columns = env.tables.schema(name).names
            age = next((column for column in _AGES if column in columns), None)
            if limit and age:
                run.wrote(name, env.tables.delete(name, f"{age} < '{as_of - limit}'"))
            env.tables.compact(name)
        return run
