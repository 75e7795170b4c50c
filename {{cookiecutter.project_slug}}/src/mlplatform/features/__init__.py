"""Feature tables: one per view, refreshed for the window that changed."""

from collections.abc import Sequence
from datetime import datetime

import pyarrow as pa

from mlplatform.contract import FeatureView
from mlplatform.engine import newest_known
from mlplatform.environment import Environment
from mlplatform.errors import ContractError
from mlplatform.preparation.silver import cuts
from mlplatform.storage.catalog import Relation, Window

TIMES = ("event_timestamp", "available_at")
SUPERSEDED = "superseded"


def columns(view: FeatureView, schema: pa.Schema) -> list[str]:
    """The feature columns of a table with this schema; raises ContractError where it cannot be joined."""
    missing = [name for name in (*view.keys, *TIMES) if name not in schema.names]
    if missing:
        raise ContractError(f"{view.table} lacks {', '.join(missing)}: a feature table has its keys and {TIMES}")
    return [name for name in schema.names if name not in (*view.keys, *TIMES, SUPERSEDED)]


def changes(env: Environment, view: FeatureView) -> tuple[list[str], list[str]]:
    """The features that the view's table has and its SQL no longer gives, and those that are new in the SQL.

    Raises ContractError where the table would cut what the SQL gives.
    """
    table = env.find(view.table)
    if table is None or _new_keys(view, table.schema):
        return [], []
    sql = env.engine.query(env.project.sql(f"features/{view.name}.sql"))
    stored, given = columns(view, table.schema), columns(view, sql.schema)
    if cut := cuts(table.schema, sql.schema):
        raise ContractError(
            f"{view.table} holds whole numbers in {', '.join(cut)}, and sql/features/{view.name}.sql gives fractions, "
            "which would be cut: delete the table's folder and run `featurize --backfill`"
        )
    return [name for name in stored if name not in given], [name for name in given if name not in stored]


def _new_keys(view: FeatureView, schema: pa.Schema) -> list[str]:
    return [key for key in view.keys if key not in schema.names]


def refresh(env: Environment, view: FeatureView, as_of: datetime, since: datetime | None) -> int:
    """Compute the rows that became available in (`since`, `as_of`] and put them in place; None means from the start.

    A row never changes once it is available, so earlier rows stay as they are. Returns the number of rows.
    """
    rows = compute(env, view, as_of, since)
    return env.catalog.replace(view.table, rows, Window("available_at", since, as_of))


def compute(env: Environment, view: FeatureView, as_of: datetime, since: datetime | None) -> Relation:
    """The rows that became available in (`since`, `as_of`], checked and marked. Raises ContractError."""
    reach = since - view.lookback if since else None
    window = Window("available_at", since, as_of)
    sql = f"SELECT * FROM ({env.project.sql(f'features/{view.name}.sql')}\n)"
    given = env.engine.query(sql, as_of=as_of, since=reach).schema
    columns(view, given)
    if SUPERSEDED in given.names:
        raise ContractError(f"sql/features/{view.name}.sql gives {SUPERSEDED}, which the platform adds: rename it")
    rows = env.engine.query(f"{sql} WHERE {window.predicate('TIMESTAMP ')}", as_of=as_of, since=reach)
    refuse_doubled(env, rows, (*view.keys, "event_timestamp"), f"sql/features/{view.name}.sql")
    _refuse_what_is_ahead(env, view, rows)
    table = env.find(view.table) if since else None
    if table and (new := _new_keys(view, table.schema)):
        raise ContractError(f"{view.table} has no key {', '.join(new)} yet: run `featurize --backfill` for a new table")
    if table and SUPERSEDED not in table.schema.names:  # an earlier release wrote it
        stored = env.engine.query(f"SELECT * FROM {view.table}")
        env.catalog.replace(view.table, _marked(env, view, stored), Window("available_at"))
    return _marked(env, view, rows, since if table else None)


def _marked(env: Environment, view: FeatureView, rows: Relation, since: datetime | None = None) -> Relation:
    """The rows with the column `superseded` (see `View`); with `since`, what was known then counts as well."""
    newest, known = newest_known(view.keys), ""
    earliest = "SELECT min(event_timestamp) AS time FROM given.rows"
    time = env.engine.query(earliest, given={"given.rows": rows}).arrow()["time"][0].as_py()
    if since and time:
        names = ", ".join(view.keys)
        newer = f"FROM {view.table} WHERE {Window('event_timestamp', time).predicate('TIMESTAMP ')}"
        known = (
            f"LEFT JOIN (SELECT {names}, max(event_timestamp) AS before {newer} GROUP BY {names}) USING ({names})"
            if names
            else f"CROSS JOIN (SELECT max(event_timestamp) AS before {newer})"
        )
        newest = f"greatest({newest}, before)"
    sql = f"SELECT rows.*, (event_timestamp >= {newest}) IS NOT TRUE AS {SUPERSEDED} FROM given.rows {known}"
    return env.engine.query(sql, as_of=since, given={"given.rows": rows})


def refuse_doubled(env: Environment, rows: Relation, keys: Sequence[str], what: str) -> None:
    """Raise ContractError where `what` gives several rows with the same keys."""
    names = ", ".join(keys)
    counted = f"SELECT {names}, count(*) AS rows FROM given.rows GROUP BY {names}"
    sql = f"{counted} HAVING count(*) > 1 ORDER BY {names} LIMIT 1"
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
