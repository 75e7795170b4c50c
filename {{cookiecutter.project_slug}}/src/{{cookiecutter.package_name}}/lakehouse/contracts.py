"""Silver tables and the contracts their rows must keep."""

from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

if TYPE_CHECKING:
    import pandera.polars as pandera

USECASE = __package__.rpartition(".")[0] + ".usecase"
PROVENANCE = ("source_file", "source_row")
KNOWN = "already known:"  # a delivery that comes twice is harmless, and no reason to stop


class ContractError(Exception):
    """Rows, or the SQL that made them, break a contract in a way that must stop the pipeline."""


@dataclass(frozen=True)
class SilverTable:
    """A table of typed facts, made from bronze.<source> by usecase/silver_sql/<name>.sql.

    `keys` name a fact: its first version is kept, a later one refused. `contract` judges each row.
    """

    name: str
    source: str
    keys: tuple[str, ...]
    contract: "pandera.DataFrameSchema"

    @property
    def sql(self) -> str:
        return usecase_sql(f"silver_sql/{self.name}.sql")


@dataclass(frozen=True)
class Judged:
    """Rows that keep a contract, and `refused`: source_file, source_row, reason (one line per row)."""

    good: pa.Table
    refused: pl.DataFrame


def usecase_sql(path: str) -> str:
    """The text of an .sql file of the use case."""
    return resources.files(USECASE).joinpath(path).read_text(encoding="utf-8")


def judge(table: SilverTable, rows: pa.Table, known: pa.Table | None) -> Judged:
    """Split `rows` by the table's contract; of rows with the same keys the first available is kept.

    `known` holds the keys that the table already has. Every row ends in exactly one of the two parts.
    Raises ContractError where the SQL's columns are not those the contract describes.
    """
    frame = pl.DataFrame(pl.from_arrow(rows)).with_row_index("_row")
    broken = _failures(table, frame)
    keeps = frame.join(broken, on="_row", how="anti").sort("available_at", *PROVENANCE)
    keys = ", ".join(table.keys)
    seen = keeps.clear()
    if known is not None:
        seen = keeps.join(pl.DataFrame(pl.from_arrow(known)), on=list(table.keys), how="semi", nulls_equal=True)
    fresh = keeps.join(seen, on="_row", how="anti", maintain_order="left")
    first = pl.struct(table.keys).is_first_distinct()
    again = seen.select("_row", pl.lit(f"{KNOWN} {keys}").alias("reason"))
    duplicates = fresh.filter(~first).select("_row", pl.lit(f"duplicate {keys}").alias("reason"))
    reasons = pl.concat([broken, again, duplicates])
    good = fresh.filter(first).drop("_row")
    refused = frame.join(reasons, on="_row").select(*PROVENANCE, "reason")
    if good.height + refused.height != rows.num_rows:
        raise ContractError(f"{table.name}: {rows.num_rows} rows in, {good.height} good and {refused.height} refused")
    return Judged(good.to_arrow().cast(rows.schema), refused)


def _failures(table: SilverTable, frame: pl.DataFrame) -> pl.DataFrame:
    """One line per row that breaks the contract: _row and the reasons, joined."""
    import pandera.errors

    nothing = pl.DataFrame(schema={"_row": pl.UInt32, "reason": pl.String})
    try:
        table.contract.validate(frame.drop("_row"), lazy=True)
        return nothing
    except pandera.errors.SchemaErrors as error:
        cases = error.failure_cases
    whole = cases.filter(pl.col("index").is_null())
    if whole.height:
        first = whole.row(0, named=True)
        raise ContractError(
            f"silver_sql/{table.name}.sql does not give what its contract describes: "
            f"{first['column']}: {first['check']} (found {first['failure_case']})"
        )
    reason = pl.format("{}: {}", "column", "check")
    joined: pl.DataFrame = (
        cases.select(pl.col("index").cast(pl.UInt32).alias("_row"), reason.alias("reason"))
        .unique()
        .sort("_row", "reason")
        .group_by("_row", maintain_order=True)
        .agg(pl.col("reason").str.join("; "))
    )
    return joined
