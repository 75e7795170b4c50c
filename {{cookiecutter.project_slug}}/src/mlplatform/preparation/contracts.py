"""Judging typed rows by the contract of their Silver table."""

from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from mlplatform.contract import SilverTable
from mlplatform.errors import ContractError

PROVENANCE = ("source_file", "source_row")
KNOWN = "already known:"  # a delivery that comes twice is harmless, and no reason to stop


@dataclass(frozen=True)
class Judged:
    """Rows that keep a contract, and `refused`: source_file, source_row, reason (one line per row)."""

    good: pa.Table
    refused: pl.DataFrame


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
            f"sql/silver/{table.name}.sql does not give what its contract describes: "
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
