"""Ingest and prepare: landing files to Bronze as received, Bronze to Silver by SQL and contract."""

from datetime import datetime

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from mlplatform.contract import SilverTable
from mlplatform.environment import Environment, Run
from mlplatform.errors import ContractError, QueryError
from mlplatform.preparation.contracts import KNOWN, judge
from mlplatform.storage import landing, ops
from mlplatform.storage.catalog import Among
from mlplatform.storage.landing import LandedFile


def ingest(env: Environment, as_of: datetime) -> Run:
    """Bring Bronze and Silver up to what had landed by `as_of`.

    Every row that lands ends in Silver or, with the reason, in quarantine. Raises ContractError, and leaves Silver
    and the quarantine as they were, when more than the configured share of a batch would be refused.
    """
    env.refuse_to_build_what_is_borrowed()
    with env.run("ingest", as_of) as run:
        for source in sorted({table.source for table in env.project.tables}):
            load_bronze(env, run, source)
        for table in env.project.tables:
            refresh_silver(env, run, table)
        return run


def load_bronze(env: Environment, run: Run, source: str) -> None:
    """Append what has newly landed; set aside lines and whole files that cannot be read."""
    bronze, ledger, refused, batches = f"bronze.{source}", [], [], []
    for file in _new_files(env, source, run.as_of):
        rows, malformed, error = _read(file, _columns(env, bronze))
        refused += [_quarantined(file, *line) for line in malformed]
        batches += [rows] if rows is not None else []
        ledger.append(
            {
                "source_file": file.name,
                "landed_at": file.landed_at,
                "rows": rows.num_rows if rows is not None else 0,
                "malformed": len(malformed),
                "error": error,
            }
        )
        if error:
            run.note(f"{file.name}: {error} (quarantine.{source})")
    if not ledger:
        return
    arrived = pa.concat_tables(batches, promote_options="default") if batches else None
    if arrived is not None:
        _refuse_if_too_many(env, bronze, len(refused) + arrived.num_rows, refused)
    _quarantine(env, run, source, refused)
    if arrived is not None and arrived.num_rows:
        files = [str(entry["source_file"]) for entry in ledger]
        env.catalog.replace(bronze, arrived, Among("source_file", files))
        run.wrote(bronze, arrived.num_rows)
    env.catalog.append(ops.FILES, ops.rows(ops.FILES, ledger))


def refresh_silver(env: Environment, run: Run, table: SilverTable) -> None:
    """Type and judge the Bronze rows that are neither in Silver nor in quarantine."""
    pending = _pending(env, table, run.as_of)
    if not pending.num_rows:
        return
    try:
        typed = env.engine.query(
            env.project.sql(f"silver/{table.name}.sql"), given={f"bronze.{table.source}": pending}
        ).arrow()
    except QueryError as error:  # a column that the source no longer sends, for one
        raise ContractError(f"sql/silver/{table.name}.sql does not fit bronze.{table.source}: {error}") from error
    if typed.num_rows != pending.num_rows:
        raise ContractError(
            f"sql/silver/{table.name}.sql made {typed.num_rows} rows of {pending.num_rows}: "
            "cleaning keeps every row, so that the contract can refuse with a reason"
        )
    silver = f"silver.{table.name}"
    known = env.catalog.read(silver, table.keys) if env.catalog.exists(silver) else None
    judged = judge(table, typed, known)
    raw = _with_reasons(pending, judged.refused)
    _refuse_if_too_many(env, silver, pending.num_rows, [row for row in raw if not _is_known(row)])
    _quarantine(env, run, table.name, raw)
    run.wrote(silver, env.catalog.append(silver, judged.good))
    _note_late_rows(env, run, silver, judged.good)


def _note_late_rows(env: Environment, run: Run, silver: str, rows: pa.Table) -> None:
    """Say what came too late for `featurize`, which takes up where it was."""
    last = env.last_finished("featurize", before=run.as_of)
    late = int(pc.sum(pc.less_equal(rows["available_at"], pa.scalar(last))).as_py() or 0) if last else 0
    if late:
        run.note(f"{silver}: {late:,} rows landed late, available before {last}: `featurize --backfill` counts them")


def _new_files(env: Environment, source: str, as_of: datetime) -> list[LandedFile]:
    known = set(env.catalog.read(ops.FILES, ["source_file"])["source_file"].to_pylist())
    return [file for file in landing.landed_files(env.landing, source, as_of) if file.name not in known]


def _columns(env: Environment, bronze: str) -> list[str]:
    return env.catalog.snapshot(bronze).schema.names if env.catalog.exists(bronze) else []


def _read(file: LandedFile, expected: list[str]) -> tuple[pa.Table | None, list[tuple[int, str, str]], str]:
    """The rows, the malformed lines and, for a file that cannot be used at all, why."""
    try:
        lines = landing.read(file)
        error = landing.missing_columns(file, lines.rows, expected)
    except landing.UnreadableFileError as unreadable:
        error = f"unreadable: {unreadable}"
    if error:
        return None, [(0, error, file.path.read_bytes()[:200].decode("utf-8", "replace"))], error
    return lines.rows, lines.malformed, ""


def _pending(env: Environment, table: SilverTable, as_of: datetime) -> pa.Table:
    settled = " UNION ALL ".join(
        f"SELECT source_file, source_row FROM {name}"
        for name in (f"silver.{table.name}", f"quarantine.{table.name}")
        if env.catalog.exists(name)
    )
    bronze = f"bronze.{table.source}"
    if not env.catalog.exists(bronze):
        return pa.table({})
    without = f"ANTI JOIN ({settled}) USING (source_file, source_row)" if settled else ""
    return env.engine.query(
        f"SELECT b.* FROM {bronze} b {without} WHERE b.landed_at <= TIMESTAMP '{as_of}' "
        "ORDER BY source_file, source_row"
    ).arrow()


def _with_reasons(pending: pa.Table, refused: pl.DataFrame) -> list[dict[str, object]]:
    rows = pl.DataFrame(pl.from_arrow(pending)).join(refused, on=["source_file", "source_row"])
    provenance = ("source_file", "source_row", "landed_at", "ingested_at", "reason")
    return [
        {
            "source_file": row["source_file"],
            "source_row": row["source_row"],
            "reason": row["reason"],
            "raw": str({name: value for name, value in row.items() if name not in provenance}),
            "available_at": row["landed_at"],
        }
        for row in rows.iter_rows(named=True)
    ]


def _quarantined(file: LandedFile, number: int, reason: str, raw: str) -> dict[str, object]:
    return {
        "source_file": file.name,
        "source_row": number,
        "reason": reason,
        "raw": raw,
        "available_at": file.landed_at,
    }


def _quarantine(env: Environment, run: Run, name: str, rows: list[dict[str, object]]) -> None:
    if rows:
        table = ops.rows(ops.QUARANTINE, rows)
        run.wrote(f"quarantine.{name}", env.catalog.upsert(f"quarantine.{name}", table, ["source_file", "source_row"]))


def _is_known(row: dict[str, object]) -> bool:
    return str(row["reason"]).startswith(KNOWN)


def _refuse_if_too_many(env: Environment, table: str, total: int, rows: list[dict[str, object]]) -> None:
    settings = env.config.lakehouse
    limit = settings.max_refused_share
    if len(rows) <= max(limit * total, settings.tolerated_rows):
        return
    reasons = pl.Series([str(row["reason"]) for row in rows]).value_counts(sort=True).head(3)
    detail = "; ".join(f"{count:,} x {reason}" for reason, count in reasons.iter_rows())
    raise ContractError(
        f"{table}: {len(rows):,} of {total:,} rows would be refused, more than lakehouse.max_refused_share = "
        f"{limit:g}: {detail}. The table is unchanged; mend the source or its SQL, or raise the share, and run again"
    )
