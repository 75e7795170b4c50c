"""What batch, online and streaming inference share: joined rows in, rows of `predictions.*` out, by one scorer."""

from typing import Literal

import pyarrow as pa

from mlplatform.contract import Project
from mlplatform.environment import Environment
from mlplatform.registry.scoring import VersionScorer, score_columns
from mlplatform.registry.store import Registry
from mlplatform.storage import ops
from mlplatform.storage.catalog import Among, BatchFunction, Relation, Window

Inference = Literal["batch", "online", "streaming"]


def predictor(registry: Registry, version: int, inference: Inference, *, late: bool = False) -> BatchFunction:
    """What makes predictions of a batch of joined rows (see `features.frames.entities`), and loads the version once."""
    scores, run_id = VersionScorer(registry, version), registry.version(version).run_id
    threshold, project, model = registry.tags(version).threshold, registry.env.project, registry.model

    def predict(batch: pa.RecordBatch) -> pa.RecordBatch:
        scored = score_columns(project.labels, scores(batch.to_pandas()), threshold)
        given = batch.select(kept(project))
        written = {
            **{name: pa.array(v, pa.string() if v.dtype == object else None) for name, v in scored.items()},
            "model": pa.repeat(model, batch.num_rows),
            "model_version": pa.repeat(version, batch.num_rows),
            "run_id": pa.repeat(run_id, batch.num_rows),
            "inference": pa.repeat(inference, batch.num_rows),
            "late": pa.repeat(late, batch.num_rows),
            "scored_at": pa.repeat(pa.scalar(ops.now(), ops.TIME), batch.num_rows),
        }
        return pa.record_batch([*given.columns, *written.values()], names=[*given.schema.names, *written])

    return predict


def predictions(
    registry: Registry, version: int, rows: Relation, inference: Inference, *, late: bool = False
) -> Relation:
    """The predictions of joined rows by one version, not computed yet."""
    predict = predictor(registry, version, inference, late=late)
    return rows.map(predict, predict(pa.RecordBatch.from_pylist([], rows.schema)).schema)


def kept(project: Project) -> list[str]:
    """The columns of joined rows that predictions keep."""
    names = [*project.entity.keys, "prediction_time", *project.slices, *project.baseline.groups, "feature_time"]
    return list(dict.fromkeys(names))


def in_batch(env: Environment, table: str, window: Window) -> Window:
    """Of a window of predictions those that were made in batch, as all were before the column `inference` came."""
    if not (env.catalog.exists(table) and "inference" in env.catalog.snapshot(table).schema.names):
        return window
    return Window(window.column, window.after, window.until, Among("inference", ("batch",), or_null=True))
