"""Bronze to Silver: rows typed by SQL and judged by their contract."""

from datetime import date, datetime

import polars as pl
import pyarrow as pa

from mlplatform.contract import SilverTable
from mlplatform.engine import Engine
from mlplatform.environment import Environment, Run
from mlplatform.errors import ContractError, QueryError
from mlplatform.preparation.bronze import stop_if_too_many
from mlplatform.storage import ops
from mlplatform.storage.catalog import Relation, quoted

PROVENANCE = ("source_file", "source_row")
REASON = "_reason"
_LONG = (pl.Date(), pl.Datetime("us"), pl.Datetime("ms"))  # types of times without a zone that reach too far
_KNOWN = "already known:"  # a delivery that comes twice is harmless, and no reason to stop


def refresh_silver(env: Environment, run: Run, table: SilverTable) -> None:
    """Type and judge the Bronze rows that are neither in Silver nor in quarantine. Of none it makes an empty table."""
    pending = _pending(env, table, run.as_of)
    total = pending.count() if pending else 0
    if not pending or (not total and env.catalog.exists(table.table)):
        return
    typed = _typed(env, table, pending, total)
    _tell_of_gaps(env, run, table, typed.schema)
    judged = judge(env.engine, table, typed, env.catalog.exists(table.table))
    others = [f"p.{quoted(name)}" for name in pending.schema.names if name.lower() != REASON]
    received = "p.*" if len(others) == len(pending.schema) else ", ".join(others)  # a source may call a column so, too
    refused = env.engine.query(
        f"SELECT {received}, j.{REASON} FROM given.judged AS j JOIN given.pending AS p USING ({', '.join(PROVENANCE)}) "
        f"WHERE j.{REASON} IS NOT NULL ORDER BY {', '.join(PROVENANCE)}",
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
    _note_lost_texts(env, run, table, judged, pending)
    _note_late_rows(env, run, table.table, judged)
    run.wrote(table.table, env.catalog.append(table.table, good))


def cuts(stored: pa.Schema, given: pa.Schema) -> list[str]:
    """The columns that are whole numbers in a table, and fractions in what is written into it."""
    whole = [field.name for field in stored if pa.types.is_integer(field.type) and field.name in given.names]
    return [name for name in whole if pa.types.is_floating(given.field(name).type)]


def _tell_of_gaps(env: Environment, run: Run, table: SilverTable, given: pa.Schema) -> None:
    """Say which columns the rows that are there lack; raises ContractError where the contract lets none be missing, or
    where whole numbers have become fractions, which the table would cut."""
    if not env.catalog.exists(table.table) or not env.catalog.count(table.table):
        return
    known = env.catalog.snapshot(table.table).schema
    if cut := cuts(known, given):
        raise ContractError(
            f"{table.table} holds whole numbers in {', '.join(cut)}, and sql/silver/{table.name}.sql gives fractions, "
            "which would be cut: make the table anew (docs/runbook.md, Changed cleaning)"
        )
    new = [column for name, column in table.contract.columns.items() if name not in known.names and not column.regex]
    if not new:
        return
    if never := [column.name for column in new if column.required and not column.nullable]:
        raise ContractError(
            f"{table.table}: earlier rows have no {', '.join(never)}, and the contract lets none be missing: make the "
            "table anew (docs/runbook.md, Changed cleaning), or declare the column `nullable=True`"
        )
    names, anew = ", ".join(column.name for column in new), "made anew (docs/runbook.md, Changed cleaning)"
    run.note(f"{table.table}: earlier rows have no {names} until the table is {anew}")


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
            WHEN _known THEN '{_KNOWN} {keys}'
            WHEN _nth > 1 THEN 'duplicate {keys}'
        END AS {REASON}
        FROM numbered""",
        given={"given.judged": broken},
    )


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
    for name, kind in frame.schema.items():
        if kind in _LONG:  # Python has no times beyond these: each pipeline that meets one would fail
            limits = (date.min, date.max) if kind == pl.Date else (datetime.min, datetime.max)
            is_one = frame[name].is_between(*limits).fill_null(True)
            reasons = reasons.zip_with(is_one, pl.Series([f"{name}: not in the years 1 to 9999"]))
    return batch.append_column(REASON, reasons.to_arrow().cast(ops.TEXT))


def _reasons(env: Environment, judged: Relation) -> dict[str, int]:
    """How many rows are refused, by reason, without those that have come before."""
    rows = env.engine.query(
        f"SELECT {REASON}, count(*) AS times FROM given.judged "
        f"WHERE {REASON} IS NOT NULL AND {REASON} NOT LIKE '{_KNOWN}%' GROUP BY {REASON}",
        given={"given.judged": judged},
    )
    return {row[REASON]: row["times"] for row in rows.arrow().to_pylist()}


def _note_lost_texts(env: Environment, run: Run, table: SilverTable, judged: Relation, pending: Relation) -> None:
    """Say what `TRY_CAST` made null of where null may be: no contract sees it."""
    received, contract = {name.lower() for name in pending.schema.names}, table.contract.columns
    typed = [
        field
        for field in judged.schema
        if field.name.lower() in received and not pa.types.is_string(field.type)
        if field.name not in contract or contract[field.name].nullable
    ]
    if not typed:
        return
    columns, places = [quoted(field.name) for field in typed], f"concat({PROVENANCE[0]}, ' row ', {PROVENANCE[1]})"
    lost = [f"CASE WHEN j.{name} IS NULL AND trim(p.{name}) <> '' THEN {places} END" for name in columns]
    found = env.engine.query(
        f"SELECT {', '.join(f'count({case}) AS n{at}, min({case}) AS first{at}' for at, case in enumerate(lost))} "
        f"FROM given.judged AS j JOIN given.pending AS p USING ({', '.join(PROVENANCE)}) "
        f"WHERE j.{REASON} IS NULL AND ({' OR '.join(f'j.{name} IS NULL' for name in columns)})",
        given={"given.judged": judged, "given.pending": pending},
    ).arrow()
    for at, field in enumerate(typed):
        if times := found[f"n{at}"][0].as_py():
            run.note(
                f"{table.table}: {times:,} values of {field.name} are text that is no {field.type}, such as in "
                f"{found[f'first{at}'][0]}: they became null, which the contract allows (README, Silver)"
            )


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
