"""What answers SQL over tables."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from mlplatform.config.loading import suggestion
from mlplatform.config.sections import SparkSettings
from mlplatform.errors import MissingTableError
from mlplatform.storage.catalog import Relation, Rows, Snapshot

Find = Callable[[str], "Snapshot | Rows | None"]
"""The table of a name, or rows in its place; where there is none, None or a MissingTableError that says more."""

# By the name that `lakehouse.engine` holds.
ENGINES = {"duckdb": "mlplatform.engine.duckdb:DuckDb", "spark": "mlplatform.engine.spark:Spark"}
NO_QUERY = "one SELECT is run here, no more, no less and nothing else: tables are written by the pipelines"
SCHEMAS = ("bronze", "silver", "quarantine", "features", "predictions", "monitoring", "ops", "given")
QUALIFIED_NAME = re.compile(rf"\b(?P<schema>{'|'.join(SCHEMAS)})\.(?P<table>[a-z_]\w*)")


class View(NamedTuple):
    """A feature view to join: its entity keys, its time to live in seconds and its feature columns.

    `marked`: its column `superseded` is true for each row that became available when a newer event of its entity was
    already known, or at the same time as one; the join never uses such a row.
    """

    name: str
    keys: Sequence[str]
    ttl: int
    columns: Sequence[str]
    marked: bool = False


def newest_known(keys: Sequence[str]) -> str:
    """SQL over rows of a feature view: the latest event of the entity known when the row became available."""
    return f"max(event_timestamp) OVER (PARTITION BY {', '.join(keys) or 'true'} ORDER BY available_at)"


class Cluster(NamedTuple):
    """What an engine on other machines needs: settings, the project's folder, the package whose code they run."""

    settings: SparkSettings
    folder: Path
    package: str


def sources(sql: str, find: Find, given: Mapping[str, Rows] | None) -> dict[str, Rows | Snapshot]:
    """What holds the rows of each table that a query names. Raises MissingTableError."""
    found: dict[str, Rows | Snapshot] = {}
    for schema, table in sorted(set(QUALIFIED_NAME.findall(sql.lower()))):
        name = f"{schema}.{table}"
        rows = (given or {}).get(name)
        source = rows if rows is not None else find(name)
        if source is None:
            raise MissingTableError(f"there is no table {name} here{suggestion(name, list(given or ()))}")
        found[name] = source
    return found


def located(sql: str, message: str) -> str:
    """What an engine says of a query, with the files of the owner's that the query holds (see `Project.sql`).

    Where the engine names a line of the query, with the file that it belongs to, and its line there.
    """
    files = {n: m[1] for n, line in enumerate(sql.splitlines(), 1) if (m := re.search(r"-- (sql/\S+\.sql)$", line))}
    told = re.search(r"\bline (\d+)", message, re.IGNORECASE)
    begin = max((n for n in files if told and n < int(told[1])), default=0)
    if not told or not begin:
        return f"{', '.join(files.values())}{': ' if files else ''}{message}"
    line = str(int(told[1]) - begin)
    return f"{files[begin]}:{line}: {message[: told.start(1)]}{line}{message[told.end(1) :]}"


class Engine(Protocol):
    """Made of `find`, which resolves `schema.table`, a `memory_limit` such as 1GB, and the cluster to run on."""

    def __init__(self, find: Find, *, memory_limit: str, cluster: Cluster) -> None: ...

    def query(
        self,
        sql: str,
        *,
        as_of: datetime | None = None,
        since: datetime | None = None,
        given: Mapping[str, Rows] | None = None,
    ) -> Relation:
        """The result of `sql`, computed when it is asked for, from the tables as they are now.

        With `as_of` (naive UTC) every table that has `available_at` shows only rows available by then; with `since`
        only rows that became available later. `given` rows stand in for stored tables; those named `given.<table>`
        are shown whole. Raises ForbiddenError for anything but one query: a statement such as COPY could write where
        this environment must not; MissingTableError for an unknown table; QueryError for SQL that does not run.
        """

    def point_in_time(
        self,
        entities: Rows,
        views: Sequence[View],
        *,
        as_of: datetime,
        since: datetime | None = None,
        given: Mapping[str, Rows] | None = None,
        order: Sequence[str] = (),
    ) -> Relation:
        """Join to each entity the newest feature values that were available at its `prediction_time`.

        Of the rows of a view available at the prediction time the one with the latest `event_timestamp` counts; older
        than its time to live, it is null. Columns are named `<view>__<column>`; `feature_time` is the latest event
        time that was used. `order` names columns to sort by.
        """
