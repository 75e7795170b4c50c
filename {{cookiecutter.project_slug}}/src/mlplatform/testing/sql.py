"""Run a project's SQL on rows written by hand: for a repository's own tests.

    good, refused = judged(PROJECT, "items", {"item_id": "item-000001", "amount": "12.5"})
    rows = query(PROJECT, "features/kind_history.sql", {"silver.outcomes": outcomes})

A table that is not given is not there.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl
import pyarrow as pa

from mlplatform.contract import Project
from mlplatform.engine import ENGINES, Engine
from mlplatform.preparation.silver import PROVENANCE, REASON, judge
from mlplatform.storage.catalog import load


def query(
    project: Project,
    path: str,
    tables: Mapping[str, pl.DataFrame],
    *,
    as_of: datetime | None = None,
    since: datetime | None = None,
) -> pl.DataFrame:
    """The rows that a file below sql/, such as `labels.sql`, makes of tables by name, such as `silver.items`.

    With `as_of` it sees only rows available by then, with `since` only those that became available later.
    """
    return pl.DataFrame(_engine().query(project.sql(path), as_of=as_of, since=since, given=_given(tables)))


def cleaned(project: Project, table: str, *rows: Mapping[str, str | None]) -> pl.DataFrame:
    """What sql/silver/<table>.sql makes of rows as they land: a text, or None for an empty field, by column.

    They come from one file that landed on 1 January 2000, and `source_row` counts from 2, as in a file with a header.
    """
    return query(project, f"silver/{table}.sql", _bronze(project, table, rows))


def judged(project: Project, table: str, *rows: Mapping[str, str | None]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of `cleaned` that keep the table's contract, and the refused: source_file, source_row, reason."""
    (contract,) = (t for t in project.tables if t.name == table)
    engine = _engine()
    given = _given(_bronze(project, table, rows))
    typed = engine.query(project.sql(f"silver/{table}.sql"), given=given)
    found = pl.DataFrame(judge(engine, contract, typed, has_table=False)).sort(PROVENANCE)
    good = found.filter(pl.col(REASON).is_null()).drop(REASON)
    return good, found.drop_nulls(REASON).select(*PROVENANCE, pl.col(REASON).alias("reason"))


def _engine() -> Engine:
    engine: Engine = load(ENGINES, "duckdb", "lakehouse.engine")(lambda name: None, memory_limit="1GB")
    return engine


def _given(tables: Mapping[str, pl.DataFrame]) -> dict[str, pa.Table]:
    return {name: rows.to_arrow() for name, rows in tables.items()}


def _bronze(project: Project, table: str, rows: Sequence[Mapping[str, str | None]]) -> dict[str, pl.DataFrame]:
    (source,) = (t.source for t in project.tables if t.name == table)
    names = dict.fromkeys(name for row in rows for name in row)
    landed = pl.lit(datetime(2000, 1, 1), pl.Datetime("us"))
    bronze = pl.DataFrame({name: [row.get(name) for row in rows] for name in names}, dict.fromkeys(names, pl.String))
    return {
        f"bronze.{source}": bronze.with_columns(
            pl.lit(f"{source}/20000101T000000Z.csv").alias("source_file"),
            pl.int_range(2, len(rows) + 2, dtype=pl.Int64).alias("source_row"),
            landed.alias("landed_at"),
            landed.alias("ingested_at"),
        )
    }
