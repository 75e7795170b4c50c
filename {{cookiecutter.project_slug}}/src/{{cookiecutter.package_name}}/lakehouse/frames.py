"""Frames for training and scoring: entities joined with what was known at their prediction times."""

from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from ..environment import Environment
from ..usecase.features import ENTITY_KEY, FEATURE_VIEWS
from .contracts import usecase_sql

_BUCKETS = 16**4


def entities(env: Environment, as_of: datetime, start: datetime, end: datetime) -> pa.Table:
    """One row per entity to predict with prediction_time in (`start`, `end`], with its features.

    Columns: those of usecase/entities.sql, `<view>__<feature>` and feature_time. An entity that became known only
    after its prediction time could not have been scored and is left out.
    """
    spine = _spine(env, as_of, start, end, fraction=1.0)
    return _with_features(env, spine, as_of)


def labelled(env: Environment, as_of: datetime, start: datetime, end: datetime, fraction: float = 1.0) -> pa.Table:
    """Like `entities`, with the column `label`: only entities whose label was available at `as_of`.

    `fraction` keeps that share of the entities, always the same ones.
    """
    spine = with_labels(env, _spine(env, as_of, start, end, fraction), as_of)
    return _with_features(env, spine.filter(pc.is_valid(spine["label"])), as_of)


def with_labels(env: Environment, rows: pa.Table, as_of: datetime) -> pa.Table:
    """Entities, or predictions of them, with the column `label`: null where none was available at `as_of`."""
    return env.engine.query(
        f"SELECT rows.*, labels.label FROM given.rows LEFT JOIN {_subquery('labels.sql')} AS labels "
        f"USING ({ENTITY_KEY}) ORDER BY prediction_time, {ENTITY_KEY}",
        as_of=as_of,
        given={"given.rows": rows},
    )


def _spine(env: Environment, as_of: datetime, start: datetime, end: datetime, fraction: float) -> pa.Table:
    bucket = f"{min(int(fraction * _BUCKETS), _BUCKETS - 1):04x}"
    kept = f"AND substr(md5({ENTITY_KEY}), 1, 4) <= '{bucket}' " if fraction < 1 else ""
    return env.engine.query(
        f"SELECT * FROM {_subquery('entities.sql')} AS entities "
        f"WHERE prediction_time > TIMESTAMP '{start}' AND prediction_time <= TIMESTAMP '{end}' "
        f"AND available_at <= prediction_time {kept}"
        f"ORDER BY prediction_time, {ENTITY_KEY}",
        as_of=as_of,
    )


def _subquery(file: str) -> str:
    return f"({usecase_sql(file).rstrip().rstrip(';')}\n)"


def _with_features(env: Environment, spine: pa.Table, as_of: datetime) -> pa.Table:
    views = []
    for view in FEATURE_VIEWS:
        table = env.find(view.table)
        if table is None:
            raise LookupError(f"{env.sources.owner} has no {view.table} yet: run `featurize` there first")
        views.append((view.name, view.keys, int(view.ttl.total_seconds()), view.columns(table.schema)))
    # A value that became available earlier than this has outlived its time to live for every row of the spine.
    first = pc.min(spine["prediction_time"]).as_py() or as_of
    since = first - max((view.ttl for view in FEATURE_VIEWS), default=timedelta()) - timedelta(seconds=1)
    joined = env.engine.point_in_time(spine, views, as_of=as_of, since=since)
    return joined.sort_by([("prediction_time", "ascending"), (ENTITY_KEY, "ascending")])
