"""Frames for training and scoring: entities joined with what was known at their prediction times."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import pyarrow as pa

from mlplatform.contract import Labels, Project
from mlplatform.engine import View
from mlplatform.environment import Environment
from mlplatform.errors import UserError
from mlplatform.features import SUPERSEDED, columns, refuse_doubled
from mlplatform.storage.catalog import Relation, Rows, Span, Window, before

_BUCKETS = 16**4


class LabelError(UserError):
    """sql/labels.sql does not give what `Labels` in project.py says; the message says how they differ."""


class Sample(NamedTuple):
    """Rows of a share of the entities, which holds `taken` of `total` rows."""

    rows: Relation
    share: float
    taken: int
    total: int


def entities(
    env: Environment,
    as_of: datetime,
    start: datetime,
    end: datetime,
    without: str = "",
    scored: str = "batch",
    fraction: float = 1.0,
) -> Relation:
    """One row per entity to predict with prediction_time in (`start`, `end`], with its features.

    Columns: those of sql/entities.sql, `<view>__<feature>` and feature_time. An entity that became known only
    after its prediction time could not have been scored and is left out, and so is one that the table
    `without` has from this way of inference: `scored`. `fraction` keeps that share of them, always the same ones.
    """
    found = _entities(env, as_of, Span(start, end), fraction=fraction, without=without, scored=scored)
    return with_features(env, found, as_of, start)


def labelled(
    env: Environment,
    as_of: datetime,
    start: datetime,
    end: datetime,
    fraction: float = 1.0,
    among: pa.Table | None = None,
) -> Relation:
    """Like `entities`, with the column `label`: only entities whose label was available at `as_of`.

    `fraction` keeps that share of the entities, always the same ones; `among` those with these keys.
    """
    return labelled_sample(env, as_of, start, end, fraction, among=among).rows


def labelled_sample(
    env: Environment,
    as_of: datetime,
    start: datetime,
    end: datetime,
    fraction: float,
    most: int | None = None,
    among: pa.Table | None = None,
) -> Sample:
    """Like `labelled`, of not more than `most` rows: see `sample`."""
    known = _entities(env, as_of, Span(start, end), fraction=fraction, among=among)
    known = _labels(env, known, as_of, join="JOIN", where="label IS NOT NULL")
    found = sample(env, known, most, fraction) if most else Sample(known, fraction, 0, 0)
    return found._replace(rows=_typed(with_features(env, found.rows, as_of, start), env.project.labels))


def sample(env: Environment, rows: Relation, most: int, fraction: float = 1.0) -> Sample:
    """All rows, or of more than `most` those of a smaller share of the entities than `fraction`, which they are.

    By a hash of the keys, so that an entity's rows stay together, and every engine and every run takes the same ones.
    One entity that has more than `most` rows is taken with all of them.
    """
    keys = env.project.entity.keys
    part = _bucket(keys)
    counts = env.engine.query(
        f"SELECT {part} AS part, count(*) AS times FROM given.rows GROUP BY {part} ORDER BY part",
        given={"given.rows": rows},
    ).arrow()
    total, taken, last = sum(counts["times"].to_pylist()), 0, 0
    for row in counts.to_pylist():
        if taken and taken + row["times"] > most:
            break
        taken, last = taken + row["times"], int(row["part"], 16)
    if taken == total:
        return Sample(rows, fraction, total, total)
    share, order = last / _BUCKETS, ", ".join(("prediction_time", *keys))
    sql = f"SELECT * FROM given.rows WHERE {_within(keys, share)} ORDER BY {order}"
    return Sample(env.engine.query(sql, given={"given.rows": rows}), share, taken, total)


def with_labels(env: Environment, rows: Rows, as_of: datetime) -> Relation:
    """Entities, or predictions of them, with the column `label`: null where none was available at `as_of`."""
    return _typed(_labels(env, rows, as_of), env.project.labels)


def _labels(env: Environment, rows: Rows, as_of: datetime, join: str = "LEFT JOIN", where: str = "true") -> Relation:
    keys = ", ".join(env.project.entity.keys)
    known = Window("available_at", until=as_of).predicate("TIMESTAMP ")  # it may be known later than its rows of Silver
    labels = env.engine.query(
        f"SELECT {keys}, label FROM {_subquery(env.project, 'labels.sql')} SEMI JOIN given.rows USING ({keys}) "
        f"WHERE {known}",
        as_of=as_of,
        given={"given.rows": rows},
    )
    refuse_doubled(env, labels, env.project.entity.keys, "sql/labels.sql")
    return env.engine.query(
        f"SELECT rows.*, label FROM given.rows {join} given.labels USING ({keys}) WHERE {where} "
        f"ORDER BY prediction_time, {keys}",
        given={"given.rows": rows, "given.labels": labels},
    )


def _typed(rows: Relation, labels: Labels) -> Relation:
    """The same rows with labels as models take them: float64 for binary ones and numbers, text for classes."""
    wanted, position = pa.string() if labels.classes else pa.float64(), rows.schema.get_field_index("label")
    given = rows.schema.field("label").type
    if given == wanted:
        return rows
    numeric = pa.types.is_integer(given) or pa.types.is_floating(given) or pa.types.is_decimal(given)
    if not (labels.classes or numeric or pa.types.is_boolean(given)):
        raise LabelError(
            f"sql/labels.sql: the labels are of type {given}, and Labels({labels.kind!r}) are numbers: "
            "turn them into numbers (CASE WHEN ... THEN 1 ELSE 0 END), or name classes: Labels('multiclass', (...))"
        )

    def cast(batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.set_column(position, pa.field("label", wanted), batch["label"].cast(wanted))

    return rows.map(cast, rows.schema.set(position, pa.field("label", wanted)))


def _entities(
    env: Environment,
    as_of: datetime,
    times: Span,
    *,
    fraction: float = 1,
    without: str = "",
    scored: str = "batch",
    among: pa.Table | None = None,
) -> Relation:
    keys = env.project.entity.keys
    kept = f"AND {_within(keys, fraction)} " if fraction < 1 else ""
    window = Window("prediction_time", *times).predicate("TIMESTAMP ")
    names = ", ".join(keys)
    has_them = without and env.catalog.exists(without)
    told = has_them and "inference" in env.catalog.snapshot(without).schema.names  # other ways count for themselves
    made = f"{window} AND coalesce(inference, 'batch') = '{scored}'" if told else window
    others = f"ANTI JOIN (SELECT {names} FROM {without} WHERE {made}) USING ({names}) " if has_them else ""
    only = f"SEMI JOIN given.among USING ({names}) " if among is not None else ""
    rows = env.engine.query(
        f"SELECT * FROM {_subquery(env.project, 'entities.sql')} AS entities {others}{only}"
        f"WHERE {window} AND available_at <= prediction_time {kept}ORDER BY prediction_time, {names}",
        as_of=as_of,
        given={} if among is None else {"given.among": among},
    )
    refuse_doubled(env, rows, keys, "sql/entities.sql")
    return rows


def _within(keys: Sequence[str], share: float) -> str:
    """SQL that is true for the rows of a share of the entities."""
    return f"{_bucket(keys)} <= '{min(int(share * _BUCKETS), _BUCKETS - 1):04x}'"


def _bucket(keys: Sequence[str]) -> str:
    """SQL for the part that an entity is in, of `_BUCKETS`: four hexadecimal digits of a hash of its keys as text."""
    texts = ", ".join(f"CAST({key} AS STRING)" for key in keys)
    return f"substr(md5(concat_ws('|', {texts})), 1, 4)"


def _subquery(project: Project, path: str) -> str:
    return f"({project.sql(path)}\n)"


def with_features(env: Environment, rows: Rows, as_of: datetime, start: datetime) -> Relation:
    """Rows of sql/entities.sql, or others with keys of views and `prediction_time` from `start` on, with features."""
    views = []
    for view in env.project.views:
        table = env.table(view.table)
        marked = SUPERSEDED in table.schema.names
        views.append(View(view.name, view.keys, int(view.ttl.total_seconds()), columns(view, table.schema), marked))
    # A value that became available earlier than this has outlived its time to live for every one of the rows.
    since = before(start, max((view.ttl for view in env.project.views), default=timedelta()) + timedelta(seconds=1))
    order = ("prediction_time", *env.project.entity.keys)
    return env.engine.point_in_time(rows, views, as_of=as_of, since=since, order=order)
