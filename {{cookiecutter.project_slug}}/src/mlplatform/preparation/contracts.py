"""Judging typed rows by the contract of their Silver table, and refusing a batch of which too much is bad."""

from collections.abc import Mapping

import polars as pl
import pyarrow as pa

from mlplatform.config.sections import LakehouseSettings
from mlplatform.contract import SilverTable
from mlplatform.engine import Engine
from mlplatform.errors import ContractError
from mlplatform.storage import ops
from mlplatform.storage.catalog import Relation, quoted

PROVENANCE = ("source_file", "source_row")
KNOWN = "already known:"  # a delivery that comes twice is harmless, and no reason to stop
REASON = "_reason"


def judge(engine: Engine, table: SilverTable, rows: Relation, has_table: bool) -> Relation:
    """Typed rows with the column `_reason`: null for those that keep the contract and go into the table.

    Of rows with the same keys the first available is kept, and none whose keys the table already has. Raises
    ContractError where the SQL's columns are not those that the contract describes.
    """
    broken = rows.map(lambda batch: _with_reasons(table, batch), rows.schema.append(pa.field(REASON, ops.TEXT)))
    keys, columns = ", ".join(table.keys), ", ".join(map(quoted, rows.schema.names))
    same = " AND ".join(f"known.{key} IS NOT DISTINCT FROM judged.{key}" for key in table.keys)
    known = f"EXISTS (SELECT 1 FROM {table.table} AS known WHERE {same})" if has_table else "false"
    return engine.query(
        f"""WITH judged AS (SELECT *, {REASON} IS NULL AND {known} AS _known FROM given.judged AS judged),
        numbered AS (
            SELECT *, row_number() OVER (
                PARTITION BY {keys}, {REASON} IS NULL ORDER BY available_at, {", ".join(PROVENANCE)}
            ) AS _nth FROM judged
        )
        SELECT {columns}, CASE
            WHEN {REASON} IS NOT NULL THEN {REASON}
            WHEN _known THEN '{KNOWN} {keys}'
            WHEN _nth > 1 THEN 'duplicate {keys}'
        END AS {REASON}
        FROM numbered""",
        given={"given.judged": broken},
    )


def stop_if_too_many(settings: LakehouseSettings, table: str, total: int, refused: Mapping[str, int]) -> None:
    """Raise ContractError where more than the tolerated share of `total` rows is refused (counted by reason)."""
    count, limit = sum(refused.values()), settings.max_refused_share
    if count <= max(limit * total, settings.tolerated_rows):
        return
    often = sorted(refused.items(), key=lambda item: -item[1])[:3]
    detail = "; ".join(f"{times:,} x {reason}" for reason, times in often)
    raise ContractError(
        f"{table}: {count:,} of {total:,} rows would be refused, more than lakehouse.max_refused_share = "
        f"{limit:g}: {detail}. The table is unchanged; mend the source or its SQL, or raise the share, and run again"
    )


def _with_reasons(table: SilverTable, batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows with one more column: which rules each breaks, joined; null for none."""
    import pandera.errors

    frame = pl.DataFrame(batch)
    reasons = pl.Series(REASON, [None] * frame.height, pl.String)
    try:
        table.contract.validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        cases = error.failure_cases
        whole = cases.filter(pl.col("index").is_null())
        if whole.height:
            first = whole.row(0, named=True)
            raise ContractError(
                f"sql/silver/{table.name}.sql does not give what its contract describes: "
                f"{first['column']}: {first['check']} (found {first['failure_case']})"
            ) from error
        reason = pl.format("{}: {}", "column", "check").alias(REASON)
        joined = (
            cases.select("index", reason)
            .unique()
            .sort("index", REASON)
            .group_by("index")
            .agg(pl.col(REASON).str.join("; "))
        )
        reasons = reasons.scatter(joined["index"], joined[REASON])
    return batch.append_column(REASON, reasons.to_arrow().cast(ops.TEXT))
