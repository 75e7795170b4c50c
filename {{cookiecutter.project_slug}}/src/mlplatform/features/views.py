"""Feature tables: one per view, refreshed for the window that changed."""

from datetime import datetime

import pyarrow as pa

from mlplatform.contract import FeatureView
from mlplatform.environment import Environment
from mlplatform.errors import ContractError

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
    rows = env.engine.query(env.project.sql(f"features/{view.name}.sql"), as_of=as_of, since=reach)
    columns(view, rows.schema)
    window = f"available_at <= TIMESTAMP '{as_of}'"
    if since:
        window += f" AND available_at > TIMESTAMP '{since}'"
    fresh = env.engine.query(f"SELECT * FROM given.rows WHERE {window}", given={"given.rows": rows})
    _check_unique(env, view, fresh)
    env.tables.replace(view.table, fresh, where=window.replace("TIMESTAMP ", ""))
    return int(fresh.num_rows)


def _check_unique(env: Environment, view: FeatureView, rows: pa.Table) -> None:
    keys = ", ".join((*view.keys, "event_timestamp"))
    twice = env.engine.query(
        f"SELECT {keys} FROM given.rows GROUP BY {keys} HAVING count(*) > 1 LIMIT 1", given={"given.rows": rows}
    ).to_pylist()
    if twice:
        raise ContractError(f"sql/features/{view.name}.sql gives more than one row for {twice[0]}")
