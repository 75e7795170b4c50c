"""Feature tables: one per view, refreshed for the window that changed."""

from collections.abc import Sequence
from datetime import datetime

import pyarrow as pa

from mlplatform.contract import FeatureView
from mlplatform.environment import Environment
from mlplatform.errors import ContractError
from mlplatform.storage.catalog import Relation, Window

TIMES = ("event_timestamp", "available_at")


def columns(view: FeatureView, schema: pa.Schema) -> list[str]:
    """The feature columns of a table with this schema; raises ContractError where it cannot be joined."""
    missing = [name for name in (*view.keys, *TIMES) if name not in schema.names]
    if missing:
        raise ContractError(f"{view.table} lacks {', '.join(missing)}: a feature table has its keys and {TIMES}")
    return [name for name in schema.names if name not in (*view.keys, *TIMES)]


def refresh(env: Environment, view: FeatureView, as_of: datetime, since: datetime | None) -> int:
    """Compute the rows that became available in (`since`, `as_of`] and put them in place; None means from the start.

    A row never changes once it is available, so earlier rows stay as they are. Returns the number of rows.
    """
    reach = since - view.lookback if since else None
    window = Window("available_at", since, as_of)
    sql = f"SELECT * FROM ({env.project.sql(f'features/{view.name}.sql')}\n)"
    columns(view, env.engine.query(sql, as_of=as_of, since=reach).schema)
    rows = env.engine.query(f"{sql} WHERE {window.predicate('TIMESTAMP ')}", as_of=as_of, since=reach)
    refuse_doubled(env, rows, (*view.keys, "event_timestamp"), f"sql/features/{view.name}.sql")
    _refuse_what_is_ahead(env, view, rows)
    return env.catalog.replace(view.table, rows, window)


def refuse_doubled(env: Environment, rows: Relation, keys: Sequence[str], what: str) -> None:
    """Raise ContractError where `what` gives several rows with the same keys."""
    names = ", ".join(keys)
    sql = f"SELECT {names}, count(*) AS rows FROM given.rows GROUP BY {names} HAVING count(*) > 1 LIMIT 1"
    for found in env.engine.query(sql, given={"given.rows": rows}).arrow().to_pylist():
        times = found.pop("rows")
        key = ", ".join(f"{name} {value}" for name, value in found.items())
        raise ContractError(f"{what} gives more than one row ({times}) for {key}: a key names one")


def _refuse_what_is_ahead(env: Environment, view: FeatureView, rows: Relation) -> None:
    sql = "SELECT event_timestamp, available_at FROM given.rows WHERE event_timestamp > available_at LIMIT 1"
    for row in env.engine.query(sql, given={"given.rows": rows}).arrow().to_pylist():
        raise ContractError(
            f"sql/features/{view.name}.sql gives a row with the event_timestamp {row['event_timestamp']}, later than "
            f"its available_at {row['available_at']}: it would hide newer rows and never grow old. A forecast happens "
            "when it is made: let event_timestamp say that, and keep the time it is about in a column of its own"
        )
