"""Bronze to Silver: rows typed by SQL and judged by their contract."""

from datetime import datetime

import pyarrow as pa

from mlplatform.contract import SilverTable
from mlplatform.environment import Environment, Run
from mlplatform.errors import ContractError, QueryError
from mlplatform.preparation.contracts import KNOWN, PROVENANCE, REASON, judge, stop_if_too_many
from mlplatform.storage import ops
from mlplatform.storage.catalog import Relation, quoted


def refresh_silver(env: Environment, run: Run, table: SilverTable) -> None:
    """Type and judge the Bronze rows that are neither in Silver nor in quarantine. Of none it makes an empty table."""
    pending = _pending(env, table, run.as_of)
    total = pending.count() if pending else 0
    if not pending or (not total and env.catalog.exists(table.table)):
        return
    judged = judge(env.engine, table, _typed(env, table, pending, total), env.catalog.exists(table.table))
    refused = env.engine.query(
        f"SELECT p.*, {REASON} FROM given.judged JOIN given.pending AS p USING ({', '.join(PROVENANCE)}) "
        f"WHERE {REASON} IS NOT NULL ORDER BY {', '.join(PROVENANCE)}",
        given={"given.judged": judged, "given.pending": pending},
    )
    stop_if_too_many(env.config.lakehouse, table.table, total, _reasons(env, judged))
    good = env.engine.query(
        f"SELECT {', '.join(map(quoted, judged.schema.names[:-1]))} FROM given.judged WHERE {REASON} IS NULL "
        f"ORDER BY available_at, {', '.join(PROVENANCE)}",
        given={"given.judged": judged},
    )
    quarantine = ops.QUARANTINE + table.name
    if refused.count():
        run.wrote(quarantine, env.catalog.append(quarantine, refused.map(_quarantined, ops.SCHEMAS[ops.QUARANTINE])))
    _note_late_rows(env, run, table.table, judged)
    run.wrote(table.table, env.catalog.append(table.table, good))


def _pending(env: Environment, table: SilverTable, as_of: datetime) -> Relation | None:
    names = (table.table, ops.QUARANTINE + table.name)
    provenance = ", ".join(PROVENANCE)
    settled = " UNION ALL ".join(f"SELECT {provenance} FROM {name}" for name in names if env.catalog.exists(name))
    bronze = f"bronze.{table.source}"
    if not env.catalog.exists(bronze):
        return None
    without = f"ANTI JOIN ({settled}) USING ({provenance})" if settled else ""
    return env.engine.query(
        f"SELECT b.* FROM {bronze} b {without} WHERE b.landed_at <= TIMESTAMP '{as_of}' ORDER BY {provenance}"
    )


def _typed(env: Environment, table: SilverTable, pending: Relation, total: int) -> Relation:
    """What the owner's SQL makes of Bronze rows. Raises ContractError where it does not run, or loses or adds rows."""
    sql = env.project.sql(f"silver/{table.name}.sql")
    try:
        typed = env.engine.query(sql, given={f"bronze.{table.source}": pending})
        made = typed.count()
    except QueryError as error:  # a column that the source does not send, for one
        raise ContractError(f"sql/silver/{table.name}.sql does not fit bronze.{table.source}: {error}") from error
    if made != total:
        raise ContractError(
            f"sql/silver/{table.name}.sql made {made} rows of {total}: "
            "cleaning keeps every row, so that the contract can refuse with a reason"
        )
    return typed


def _reasons(env: Environment, judged: Relation) -> dict[str, int]:
    """How many rows are refused, by reason, without those that have come before."""
    rows = env.engine.query(
        f"SELECT {REASON}, count(*) AS times FROM given.judged "
        f"WHERE {REASON} IS NOT NULL AND {REASON} NOT LIKE '{KNOWN}%' GROUP BY {REASON}",
        given={"given.judged": judged},
    )
    return {row[REASON]: row["times"] for row in rows.arrow().to_pylist()}


def _note_late_rows(env: Environment, run: Run, silver: str, judged: Relation) -> None:
    """Say what came too late for `featurize`, which takes up where it was."""
    last = env.last_finished("featurize", before=run.as_of)
    if last is None:
        return
    sql = f"SELECT 1 FROM given.judged WHERE {REASON} IS NULL AND available_at <= TIMESTAMP '{last}'"
    late = env.engine.query(sql, given={"given.judged": judged}).count()
    if late:
        run.note(f"{silver}: {late:,} rows landed late, available before {last}: `featurize --backfill` counts them")


def _quarantined(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Refused Bronze rows as rows of quarantine: as they came, with the reason."""
    aside = (*PROVENANCE, "landed_at", "ingested_at", REASON)
    rows = [
        {
            "source_file": row["source_file"],
            "source_row": row["source_row"],
            "reason": row[REASON],
            "raw": str({name: value for name, value in row.items() if name not in aside}),
            "available_at": row["landed_at"],
        }
        for row in batch.to_pylist()
    ]
    return pa.RecordBatch.from_pylist(rows, ops.SCHEMAS[ops.QUARANTINE])
