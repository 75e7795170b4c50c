"""The data of one training: the labelled rows known at a time, parted into training rows and held-out rows."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

import pandas as pd
import pyarrow as pa

from mlplatform.config.training import TrainingSettings
from mlplatform.environment import Environment
from mlplatform.errors import UserError
from mlplatform.features.frames import labelled
from mlplatform.registry.tags import HeldOut
from mlplatform.storage.catalog import Snapshot, Span
from mlplatform.training import labels

EPOCH = datetime(1970, 1, 1)


class NotEnoughDataError(UserError):
    """There are too few labelled rows; the message says how many, which setting asks for more, and where to look."""


@dataclass(frozen=True)
class TrainingData:
    """Joined frames with the column `label`, the tables they come from, and a digest of what they hold."""

    train: pd.DataFrame
    holdout: pd.DataFrame
    trained_on: Span
    held_out: HeldOut
    tables: dict[str, Snapshot]
    digest: str

    @property
    def table_versions(self) -> dict[str, int]:
        return {name: table.version for name, table in self.tables.items()}


def load(env: Environment, as_of: datetime) -> TrainingData:
    """Build the training and held-out frames; raises NotEnoughDataError and LabelError."""
    settings, keys = env.config.training, env.project.entity.keys
    labels.refuse_nulls(env, as_of)
    if settings.split == "time":
        split = as_of - settings.holdout
        span, held_out = Span(_start(settings, split), split), HeldOut(Span(split, as_of))
    else:
        span = Span(_start(settings, as_of), as_of)
        columns = keys if settings.split == "random" else (str(settings.group),)
        held_out = HeldOut(span, columns, settings.holdout_share, settings.seed)
    train, holdout = parts(env, as_of, span, held_out, settings.fraction)
    _refuse_few(env, as_of, train.num_rows, holdout.num_rows)
    frames = train.to_pandas(), holdout.to_pandas()
    labels.check(env.project.labels, frames[0]["label"], frames[1]["label"], settings.min_class_rows)
    tables = [t.table for t in env.project.tables] + [view.table for view in env.project.views]
    found = {name: table for name in tables if (table := env.find(name))}
    return TrainingData(*frames, span, held_out, found, _digest(train, holdout))


def parts(
    env: Environment,
    as_of: datetime,
    trained_on: Span,
    held_out: HeldOut,
    fraction: float,
    among: pa.Table | None = None,
) -> tuple[pa.Table, pa.Table]:
    """The labelled rows to train on and those held out; with `among`, only those with these entity keys."""
    if not held_out.columns:
        # As if trained when the held-out period began: what was not known then would tell of it.
        train = labelled(env, trained_on.end, *trained_on, fraction, among).arrow()
        return train, labelled(env, as_of, *held_out.span, fraction, among).arrow()
    rows = labelled(env, as_of, *trained_on, fraction, among).arrow()
    if missing := set(held_out.columns) - set(rows.schema.names):
        raise NotEnoughDataError(f"training.group: the joined rows have no column {', '.join(missing)}")
    chosen = pa.array(held_out.chosen(rows))
    return rows.filter(pa.compute.invert(chosen)), rows.filter(chosen)


def _start(settings: TrainingSettings, end: datetime) -> datetime:
    return end - settings.history if settings.history else EPOCH


def _refuse_few(env: Environment, as_of: datetime, train: int, holdout: int) -> None:
    settings = env.config.training
    if min(train, holdout) >= settings.min_rows:
        return
    rows = f"{train:,} labelled rows to train on and {holdout:,} held out"
    found = f"{rows}, and training.min_rows is {settings.min_rows:,}"
    if not train + holdout:
        raise NotEnoughDataError(
            f"no labelled rows as of {as_of}: is --as-of within the data, and have ingest and featurize run in "
            f"{env.sources.owner}?"
        )
    if settings.split != "time":
        raise NotEnoughDataError(f"{found}: training.holdout_share of {settings.holdout_share:g} parts them")
    split = as_of - settings.holdout
    if train < settings.min_rows:
        found += (
            f": those to train on have a prediction time up to {split}, and a label that was known then. Is "
            "training.holdout longer than the data? Data without times, or delivered at once, want split: random"
        )
    else:
        found += f": those held out have a prediction time after {split} (training.holdout)"
    raise NotEnoughDataError(found)


def _digest(*tables: pa.Table) -> str:
    """Identifies the rows whatever Delta version they are read from: later rows do not change an earlier view."""
    digest = hashlib.sha256()
    for table in tables:
        frame = table.to_pandas()  # not Arrow's buffers: where a value is missing, they hold whatever was there
        floats = dict.fromkeys(frame.select_dtypes("floating"), "float32")
        digest.update(pd.util.hash_pandas_object(frame.astype(floats), index=False).to_numpy().tobytes())
    return digest.hexdigest()[:16]
