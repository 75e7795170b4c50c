"""Feature tables: one per view, refreshed for the window that changed."""

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
    _check_unique(env, view, rows)
    return env.catalog.replace(view.table, rows, window)


def _check_unique(env: Environment, view: FeatureView, rows: Relation) -> None:
    keys = ", ".join((*view.keys, "event_timestamp"))
    sql = f"SELECT {keys} FROM given.rows GROUP BY {keys} HAVING count(*) > 1 LIMIT 1"
    if twice := env.engine.query(sql, given={"given.rows": rows}).arrow().to_pylist():
        raise ContractError(f"sql/features/{view.name}.sql gives more than one row for {twice[0]}")
