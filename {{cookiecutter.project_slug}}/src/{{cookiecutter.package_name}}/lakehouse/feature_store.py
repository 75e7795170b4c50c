"""Feature views: declared by the use case, kept as tables, refreshed for the window that changed."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from .contracts import ContractError, usecase_sql

if TYPE_CHECKING:
    from ..environment import Environment

TIMES = ("event_timestamp", "available_at")


@dataclass(frozen=True)
class FeatureView:
    """Features of one entity, made by usecase/feature_sql/<name>.sql into the table features.<name>.

    `keys` name the entity. A value older than `ttl`, counted from its event_timestamp, is not used. `lookback` is
    the longest span of `sources` (silver tables) that one row is computed from.
    """

    name: str
    keys: tuple[str, ...]
    ttl: timedelta
    lookback: timedelta
    sources: tuple[str, ...]
    description: str

    @property
    def table(self) -> str:
        return f"features.{self.name}"

    @property
    def sql(self) -> str:
        return usecase_sql(f"feature_sql/{self.name}.sql")

    def columns(self, schema: pa.Schema) -> list[str]:
        """The feature columns of a table with this schema; raises ContractError where it cannot be joined."""
        missing = [name for name in (*self.keys, *TIMES) if name not in schema.names]
        if missing:
            raise ContractError(f"{self.table} lacks {', '.join(missing)}: a feature table has its keys and {TIMES}")
        return [name for name in schema.names if name not in (*self.keys, *TIMES)]


def refresh(env: "Environment", view: FeatureView, as_of: datetime, since: datetime | None) -> int:
    """Compute the rows that became available in (`since`, `as_of`] and put them in place; None means from the start.

    A row never changes once it is available, so earlier rows stay as they are. Returns the number of rows.
    """
    reach = since - view.lookback if since else None
    rows = env.engine.query(view.sql, as_of=as_of, since=reach)
    view.columns(rows.schema)
    window = f"available_at <= TIMESTAMP '{as_of}'"
    if since:
        window += f" AND available_at > TIMESTAMP '{since}'"
    fresh = env.engine.query(f"SELECT * FROM given.rows WHERE {window}", given={"given.rows": rows})
    _check_unique(env, view, fresh)
    env.tables.replace(view.table, fresh, where=window.replace("TIMESTAMP ", ""))
    return int(fresh.num_rows)


def _check_unique(env: "Environment", view: FeatureView, rows: pa.Table) -> None:
    keys = ", ".join((*view.keys, "event_timestamp"))
    twice = env.engine.query(
        f"SELECT {keys} FROM given.rows GROUP BY {keys} HAVING count(*) > 1 LIMIT 1", given={"given.rows": rows}
    ).to_pylist()
    if twice:
        raise ContractError(f"feature_sql/{view.name}.sql gives more than one row for {twice[0]}")
