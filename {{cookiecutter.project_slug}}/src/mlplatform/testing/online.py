"""Checks of online inference that any project passes on its own data: tests/test_online.py runs them."""

import random

import polars as pl
import pyarrow as pa
from polars.testing import assert_frame_equal

from mlplatform.features.frames import with_features
from mlplatform.features.online import OnlineFeatures
from mlplatform.pipelines.materialize import materialize
from mlplatform.storage import ops
from mlplatform.testing.conformance import World

_TIMES, _ENTITIES = 5, 40


def online_values_equal_offline_ones(world: World) -> None:
    """For random entities and times: what `materialize --as-of t` publishes is what a point-in-time join at t finds."""
    env, draw, seen = world.copy_of_backfill("online"), random.Random(0), 0
    for time in world.times(_TIMES):
        materialize(env, time)
        known = env.engine.query(f"SELECT * FROM ({env.project.sql('entities.sql')}\n) ORDER BY 1", as_of=time).arrow()
        picked = known.take(sorted(draw.sample(range(known.num_rows), min(_ENTITIES, known.num_rows))))
        place = picked.schema.get_field_index("prediction_time")
        rows = picked.set_column(place, "prediction_time", pa.array([time] * picked.num_rows, ops.TIME))
        offline = with_features(env, rows, time, time).arrow()
        online = OnlineFeatures(env)
        found = [online.at(row, time) for row in offline.select(rows.column_names).to_pylist()]
        schema = pa.schema({**online.types, "feature_time": ops.TIME})
        ours = pa.Table.from_pylist([{**one.values, "feature_time": one.feature_time} for one in found], schema)
        theirs = offline.select(ours.column_names)
        assert_frame_equal(pl.DataFrame(ours), pl.DataFrame(theirs), check_exact=True)
        seen += sum(one.feature_time is not None for one in found)
    assert seen, "no entity had any feature at any of the times: nothing was compared"


CHECKS = (online_values_equal_offline_ones,)
