"""Frames for training and scoring: entities joined with what was known at their prediction times."""

from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from mlplatform.contract import Project
from mlplatform.environment import Environment
from mlplatform.errors import MissingTableError
from mlplatform.features.views import columns

_BUCKETS = 16**4


def entities(env: Environment, as_of: datetime, start: datetime, end: datetime) -> pa.Table:
    """One row per entity to predict with prediction_time in (`start`, `end`], with its features.

    Columns: those of sql/entities.sql, `<view>__<feature>` and feature_time. An entity that became known only
    after its prediction time could not have been scored and is left out.
    """
    return _with_features(env, _entities(env, as_of, start, end, fraction=1.0), as_of)


def labelled(env: Environment, as_of: datetime, start: datetime, end: datetime, fraction: float = 1.0) -> pa.Table:
    """Like `entities`, with the column `label`: only entities whose label was available at `as_of`.

    `fraction` keeps that share of the entities, always the same ones.
    """
    known = with_labels(env, _entities(env, as_of, start, end, fraction), as_of)
    return _with_features(env, known.filter(pc.is_valid(known["label"])), as_of)


def with_labels(env: Environment, rows: pa.Table, as_of: datetime) -> pa.Table:
    """Entities, or predictions of them, with the column `label`: null where none was available at `as_of`."""
    keys = ", ".join(env.project.entity.keys)
    return env.engine.query(
        f"SELECT rows.*, labels.label FROM given.rows LEFT JOIN {_subquery(env.project, 'labels.sql')} AS labels "
        f"USING ({keys}) ORDER BY prediction_time, {keys}",
        as_of=as_of,
        given={"given.rows": rows},
    )


def _entities(env: Environment, as_of: datetime, start: datetime, end: datetime, fraction: float) -> pa.Table:
    keys = env.project.entity.keys
    bucket = f"{min(int(fraction * _BUCKETS), _BUCKETS - 1):04x}"
    texts = ", ".join(f"CAST({key} AS STRING)" for key in keys)
    kept = f"AND substr(md5(concat_ws('|', {texts})), 1, 4) <= '{bucket}' " if fraction < 1 else ""
    return env.engine.query(
        f"SELECT * FROM {_subquery(env.project, 'entities.sql')} AS entities "
        f"WHERE prediction_time > TIMESTAMP '{start}' AND prediction_time <= TIMESTAMP '{end}' "
        f"AND available_at <= prediction_time {kept}"
        f"ORDER BY prediction_time, {', '.join(keys)}",
        as_of=as_of,
    )


def _subquery(project: Project, path: str) -> str:
    return f"({project.sql(path)}\n)"


def _with_features(env: Environment, rows: pa.Table, as_of: datetime) -> pa.Table:
    views = []
    for view in env.project.views:
        table = env.find(view.table)
        if table is None:
            raise MissingTableError(f"{env.sources.owner} has no {view.table} yet: run `featurize` there first")
        views.append((view.name, view.keys, int(view.ttl.total_seconds()), columns(view, table.schema)))
    # A value that became available earlier than this has outlived its time to live for every one of the rows.
    first = pc.min(rows["prediction_time"]).as_py() or as_of
    since = first - max((view.ttl for view in env.project.views), default=timedelta()) - timedelta(seconds=1)
    joined = env.engine.point_in_time(rows, views, as_of=as_of, since=since)
    order = [(name, "ascending") for name in ("prediction_time", *env.project.entity.keys)]
    return joined.sort_by(order)
