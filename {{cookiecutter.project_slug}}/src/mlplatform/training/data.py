"""The data of one training: the labelled rows known at a time, split into training rows and a newer held-out part."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

import pandas as pd
import pyarrow as pa

from mlplatform.environment import Environment
from mlplatform.errors import UserError
from mlplatform.features.frames import labelled
from mlplatform.storage.catalog import Snapshot

EPOCH = datetime(1970, 1, 1)


class NotEnoughDataError(UserError):
    """There are too few labelled rows; the message says how many and where to look."""


@dataclass(frozen=True)
class Windows:
    """Spans of prediction time: training in (`start`, `split`], evaluation in (`split`, `end`]."""

    start: datetime
    split: datetime
    end: datetime


@dataclass(frozen=True)
class TrainingData:
    """Joined frames with the column `label`, the tables they come from, and a digest of what they hold."""

    train: pd.DataFrame
    holdout: pd.DataFrame
    windows: Windows
    tables: dict[str, Snapshot]
    digest: str

    @property
    def table_versions(self) -> dict[str, int]:
        return {name: table.version for name, table in self.tables.items()}


def windows(env: Environment, as_of: datetime) -> Windows:
    """The spans that a training at `as_of` uses."""
    settings = env.config.training
    split = as_of - settings.holdout
    return Windows(split - settings.history if settings.history else EPOCH, split, as_of)


def load(env: Environment, as_of: datetime) -> TrainingData:
    """Build the training and held-out frames; raises NotEnoughDataError."""
    settings, spans = env.config.training, windows(env, as_of)
    train = labelled(env, as_of, spans.start, spans.split, settings.fraction).arrow()
    holdout = labelled(env, as_of, spans.split, spans.end, settings.fraction).arrow()
    for name, rows in (("training", train), ("held-out", holdout)):
        if rows.num_rows < settings.min_rows:
            raise NotEnoughDataError(
                f"{rows.num_rows:,} labelled {name} rows at {as_of} (training.min_rows is {settings.min_rows:,}): "
                f"is --as-of within the data, and have ingest and featurize run in {env.sources.owner}?"
            )
    tables = [t.table for t in env.project.tables] + [view.table for view in env.project.views]
    return TrainingData(
        train.to_pandas(),
        holdout.to_pandas(),
        spans,
        {name: table for name in tables if (table := env.find(name))},
        _digest(train, holdout),
    )


def _digest(*tables: pa.Table) -> str:
    """Identifies the rows whatever Delta version they are read from: later rows do not change an earlier view."""
    digest = hashlib.sha256()
    for table in tables:
        for column in table.combine_chunks().itercolumns():
            kind = pa.float32() if pa.types.is_floating(column.type) else column.type
            for chunk in column.cast(kind).chunks:
                for buffer in chunk.buffers():
                    digest.update(buffer or b"")
    return digest.hexdigest()[:16]
