"""What is to be forgotten: which rows and lines are about a subject; the landing zone and tables without them."""

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mlplatform.config.loading import suggestion
from mlplatform.contract import Database
from mlplatform.environment import READ_TOGETHER, Environment
from mlplatform.errors import UserError
from mlplatform.preparation.silver import PROVENANCE
from mlplatform.storage import formats, landing, ops
from mlplatform.storage.address import put, told
from mlplatform.storage.catalog import Window, quoted

FORGOTTEN = "[forgotten]"
_SHORT = 4  # characters: shorter values are words of many texts

Doomed = dict[str, pa.Table]
"""By table, in the order in which they have to go, the values of key columns whose rows go."""

_TEXTS = ("error", "reason", "request_reason", "message", "slice")  # columns that may quote a value
_READ_BY_PEOPLE = ("dashboard.html", "review/**/*.md", "review/**/*.json")


@dataclass(frozen=True)
class Subject:
    """`values` by column, as text. A row is about the subject where every column has its value."""

    values: Mapping[str, str]

    @property
    def columns(self) -> str:
        return ", ".join(self.values)

    def row(self, schema: pa.Schema) -> pa.Table:
        """The values as a table of one row, to join with: they belong into no SQL, which logs and errors may show.

        Each as text and, as `<name>__typed`, of the type that its column has there: `0007` is the number 7.
        """
        typed = {f"{name}__typed": _as(schema.field(name).type, value) for name, value in self.values.items()}
        return pa.table({name: pa.array([value], pa.string()) for name, value in self.values.items()} | typed)

    def named_in(self, columns: Sequence[str]) -> bool:
        """Whether a table with these columns can say which of its rows are about the subject."""
        return set(self.values) <= set(columns)

    def is_row(self, row: Mapping[str, str | None]) -> bool:
        return all(row.get(name) == value for name, value in self.values.items())

    def is_in(self, text: str | None) -> bool:
        """Whether a refused line, or the like, holds every value as a word; of a row, in the columns of the values."""
        row = _row(text or "")
        return bool(text) and all(pattern.search(str(row.get(name, text))) for name, pattern in self._words.items())

    def redacted(self, text: str) -> str:
        """The text without the values; of short ones only those that stand behind the name of their column."""
        for name, value in self.values.items():
            pattern = self._words[name]
            if len(value) < _SHORT:
                pattern = re.compile(rf"(?<={re.escape(name)}[ =]){pattern.pattern}")
            text = pattern.sub(FORGOTTEN, text)
        return text

    @cached_property
    def _words(self) -> dict[str, re.Pattern[str]]:
        return {name: re.compile(rf"(?<!\w)(?:{_spellings(value)})(?!\w)") for name, value in self.values.items()}


def subject_of(texts: Sequence[str]) -> Subject:
    """The subject that `column=value` texts mean; raises UserError."""
    pairs = [text.partition("=") for text in texts]
    if wrong := [text for text, (name, _, value) in zip(texts, pairs, strict=True) if not (name and value)]:
        raise UserError(f"{', '.join(wrong)}: wanted is <column>=<value>, such as item_id=I-17")
    names = [name for name, _, _ in pairs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"{', '.join(sorted(twice))}: a row has one value of it: forget one after the other")
    return Subject({name: value for name, _, value in pairs})


def refuse_unknown(env: Environment, subject: Subject) -> None:
    """Raise UserError for a column that nothing here has: a misspelt one would find nothing, and all would stay."""
    known = {*env.project.entity.keys, *(name for source in env.project.sources for name in source.columns)}
    known |= {name for table in _own(env) for name in env.catalog.snapshot(table).schema.names}
    for name in subject.values.keys() - known:
        raise UserError(f"no source and no table of {env.name} has a column {name}{suggestion(name, list(known))}")


def doomed_rows(env: Environment, subject: Subject) -> Doomed:
    """What is to be deleted. Silver comes last: it tells which Bronze rows and entities are the subject's."""
    found: Doomed = {}
    last: Doomed = {}
    for source in env.project.sources:
        origin = _origin(env, subject, source.name)
        quarantines = {ops.QUARANTINE + name for name in (source.name, *_silver(env, source.name))}
        for table in (f"bronze.{source.name}", *sorted(quarantines)):
            found[table] = origin
        silver = [f"silver.{name}" for name in _silver(env, source.name)]
        # The tables that name the subject go after those that do not.
        last |= dict.fromkeys(sorted(silver, key=lambda name: _names(env, subject, name)), origin)
    about = entities_of(env, subject)
    for name in _own(env):
        if name.split(".")[0] in ("ops", "monitoring") or name in found or name in last:
            continue
        if _names(env, subject, name):
            found[name] = _values(env, subject, name, tuple(subject.values))
        elif about is not None and set(about.column_names) <= set(env.catalog.snapshot(name).schema.names):
            found[name] = about
    own = _own(env)
    return {name: keys for name, keys in (found | last).items() if name in own and keys.num_rows}


def count(env: Environment, name: str, keys: pa.Table) -> int:
    """How many rows of a table have these keys."""
    same = ", ".join(map(quoted, keys.column_names))
    return env.engine.query(
        f"SELECT 1 FROM {name} SEMI JOIN given.keys USING ({same})", given={"given.keys": keys}
    ).count()


def entities_of(env: Environment, subject: Subject) -> pa.Table | None:
    """The keys of the subject's entities; None where sql/entities.sql has not all of its columns, or does not run."""
    keys, tables = env.project.entity.keys, {table.table for table in env.project.tables}
    if any(env.find(name) is None for name in tables):
        return None
    sql = f"({env.project.sql('entities.sql')}\n)"
    schema = env.engine.query(f"SELECT * FROM {sql}").schema
    return _about(env, subject, sql, schema, keys) if subject.named_in(schema.names) else None


def forget_lines(env: Environment, subject: Subject, doomed: Doomed, *, write: bool) -> dict[str, int]:
    """Landing files that hold the subject, with the number of their lines that go; with `write` they are put in place
    without them. Raises GrowingError."""
    if env.sources is not env.catalog:
        return {}
    found = {}
    files = landing.look(env.landing, env.project.sources).files
    for source in env.project.sources:
        rows = _bronze_rows(env, f"bronze.{source.name}", doomed)
        for file in files.get(source.name, ()):
            goes = _judge(subject, rows.get(file.name, []))
            if lines := landing.forget(file, source, goes, env.config.lakehouse.settle, write=write):
                found[file.name] = lines
    return found


def not_searched(env: Environment, subject: Subject) -> Iterator[str]:
    """What holds the subject, or may, and stays: files that are no delivery, names of files."""
    landed = landing.look(env.landing, env.project.sources)
    for name in [*landed.strangers, *(file.name for files in landed.files.values() for file in files)]:
        place = env.landing / name
        if subject.is_in(name):
            yield f"{place}: its name holds a value"
        elif name in landed.strangers and isinstance(place, Path) and place.is_file():
            with told(str(place)):
                text = place.read_bytes().decode("utf-8", "replace")
            if subject.is_in(text):
                yield f"{place}: no delivery, and holds the value"
        elif name in landed.strangers:
            yield f"{place}: no delivery, not searched"
    packed = set()
    for source in env.project.sources:
        if isinstance(source.format, Database):
            yield f"source {source.name} is a database: delete it there first, or it comes again"
        elif not source.format.suffix.endswith((".csv", ".jsonl")):
            packed.add(source.name)
    for entry in env.catalog.read(ops.FILES, ["source_file", "error"]).to_pylist():
        if entry["source_file"].partition("/")[0] in packed and entry["error"].startswith(formats.UNREADABLE):
            yield f"{env.landing / entry['source_file']}: damaged, searched as far as it can be read"


def in_other_columns(env: Environment, subject: Subject) -> Iterator[str]:
    """Columns that hold a value, too: whether rows that name it there are about the subject, only a person can say."""
    values = pa.table({"value": pa.array([value for value in subject.values.values() if len(value) >= _SHORT])})
    for name in _own(env) if values.num_rows else ():
        fields = [] if name.split(".")[0] in ("ops", "monitoring") else env.catalog.snapshot(name).schema
        apart = (*subject.values, *PROVENANCE)
        texts = [quoted(field.name) for field in fields if pa.types.is_string(field.type) and field.name not in apart]
        counts = ", ".join(f"count(CASE WHEN t.{text} = s.value THEN 1 END) AS {text}" for text in texts)
        if texts:
            sql = f"SELECT {counts} FROM {name} AS t CROSS JOIN given.subject AS s"
            for column, times in env.engine.query(sql, given={"given.subject": values}).arrow().to_pylist()[0].items():
                if times:
                    yield f"{name}: {times:,} rows hold a value in {column}: forget it there, too, if they are about it"


def redact(env: Environment, subject: Subject, *, write: bool) -> dict[str, int]:
    """Texts of the platform's own tables, and pages for people, that quote the subject: rows by table, and the pages.

    With `write` they say `[forgotten]` instead.
    """
    found = {}
    for name in [name for name in _own(env) if name.split(".")[0] in ("ops", "monitoring", "quarantine")]:
        rows = env.engine.query(f"SELECT * FROM {name}")
        clean = rows.map(partial(_redacted, subject), rows.schema)
        pairs = zip(rows.batches(), clean.batches(), strict=True)
        if changed := sum(int(pc.sum(pc.not_equal(_texts(a), _texts(b))).as_py() or 0) for a, b in pairs):
            found[name] = changed
            if write:
                env.catalog.replace(name, clean, Window("reason"))  # without limits: every row
    for path in [path for pattern in _READ_BY_PEOPLE for path in sorted(env.reports.glob(pattern))]:
        text = path.read_text(encoding="utf-8")
        if subject.redacted(text) != text:
            found[path.relative_to(env.reports).as_posix()] = 1
            if write:
                put(path, subject.redacted(text).encode())
    return found


def _redacted(subject: Subject, batch: pa.RecordBatch) -> pa.RecordBatch:
    for name in [name for name in _TEXTS if name in batch.schema.names]:
        texts = [text and subject.redacted(text) for text in batch[name].to_pylist()]
        batch = batch.set_column(
            batch.schema.get_field_index(name), batch.schema.field(name), pa.array(texts, batch[name].type)
        )
    return batch


def _texts(batch: pa.RecordBatch) -> pa.Array:
    """The texts of each row in one."""
    names = [name for name in _TEXTS if name in batch.schema.names]
    return pc.binary_join_element_wise(*(batch[name] for name in names), "|", null_handling="replace")


def _spellings(value: str) -> str:
    """A value as it is, and as Python, JSON and CSV write it."""
    spelt = [value, repr(value)[1:-1], json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]]
    spelt += [value.replace(quote, quote * 2) for quote in "\"'"]
    return "|".join(re.escape(text) for text in dict.fromkeys(spelt))


def _own(env: Environment) -> list[str]:
    """The tables that this environment writes."""
    external = {f"features.{view.view}" for view in env.config.lakehouse.external_views}
    borrowed = READ_TOGETHER if env.sources is not env.catalog else ()
    names = env.catalog.names()
    return [name for name in names if name not in external and name.split(".")[0] not in borrowed]


def _silver(env: Environment, source: str) -> list[str]:
    return [table.name for table in env.project.tables if table.source == source]


def _names(env: Environment, subject: Subject, name: str) -> bool:
    return name in _own(env) and subject.named_in(env.catalog.snapshot(name).schema.names)


def _about(env: Environment, subject: Subject, rows: str, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    """Those columns of the rows of a table, or of a query, that are about the subject."""
    same = " AND ".join(
        f"(CAST(t.{quoted(name)} AS STRING) = s.{quoted(name)} OR t.{quoted(name)} = s.{quoted(f'{name}__typed')})"
        for name in subject.values
    )
    sql = f"SELECT DISTINCT {', '.join(map(quoted, columns))} FROM {rows} AS t SEMI JOIN given.subject AS s ON {same}"
    return env.engine.query(sql, given={"given.subject": subject.row(schema)}).arrow()


def _as(kind: pa.DataType, value: str) -> pa.Array:
    """A value as a column of this type has it; null where it cannot."""
    ways = [kind, *[pa.decimal128(38, 9)] * pa.types.is_integer(kind)]
    ways += [pa.timestamp("us", "UTC")] * pa.types.is_temporal(kind)
    for way in ways:
        with suppress(pa.ArrowException):
            return pa.array([value]).cast(way).cast(kind)
    return pa.nulls(1, kind)


def _row(text: str) -> Mapping[str, object]:
    """The row that quarantine holds as text; without columns where it is a line, or cut."""
    with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
        return dict(ast.literal_eval(text)) if text.startswith("{'") else {}
    return {}


def _values(env: Environment, subject: Subject, name: str, columns: Sequence[str]) -> pa.Table:
    return _about(env, subject, name, env.catalog.snapshot(name).schema, columns)


def _origin(env: Environment, subject: Subject, source: str) -> pa.Table:
    """Where the subject's rows of a source came from: file and line. By the columns of Bronze and Silver, and by the
    text of what was refused."""
    schema = pa.schema([(name, ops.SCHEMAS[ops.QUARANTINE].field(name).type) for name in PROVENANCE])
    parts = [schema.empty_table()]
    for name in (f"bronze.{source}", *(f"silver.{table}" for table in _silver(env, source))):
        if _names(env, subject, name):
            parts.append(_values(env, subject, name, PROVENANCE).cast(schema))
    for name in {ops.QUARANTINE + table for table in (source, *_silver(env, source))}:
        if env.catalog.exists(name):
            for batch in env.engine.query(f"SELECT {', '.join(PROVENANCE)}, raw FROM {name}").batches():
                holds = pa.array([subject.is_in(raw) for raw in batch["raw"].to_pylist()], pa.bool_())
                parts.append(pa.table(batch.filter(holds).select(PROVENANCE)).cast(schema))
    return pa.concat_tables(parts).group_by(PROVENANCE).aggregate([]).select(PROVENANCE)


def _bronze_rows(env: Environment, name: str, doomed: Doomed) -> Mapping[str, list[dict[str, str]]]:
    """The doomed rows of Bronze as their files have them, by file."""
    rows: dict[str, list[dict[str, str]]] = {}
    if name in doomed:
        sql = f"SELECT * FROM {name} SEMI JOIN given.keys USING ({', '.join(PROVENANCE)})"
        for batch in env.engine.query(sql, given={"given.keys": doomed[name]}).batches():
            for row in batch.to_pylist():
                file = re.sub(r"#\d+$", "", row["source_file"])
                values = {name: value for name, value in row.items() if name not in formats.PROVENANCE}
                rows.setdefault(file, []).append(values)
    return rows


def _judge(subject: Subject, rows: list[dict[str, str]]) -> formats.Goes:
    known = {_content(row) for row in rows}

    def goes(text: str, row: formats.Values | None) -> bool:
        if row is None:
            return subject.is_in(text)
        return subject.is_row(row) or _content(row) in known

    return goes


def _content(row: Mapping[str, str | None]) -> frozenset[tuple[str, str]]:
    """A row whatever columns it lacks: what is empty in a file is null in Bronze."""
    return frozenset((name, value) for name, value in row.items() if value)
