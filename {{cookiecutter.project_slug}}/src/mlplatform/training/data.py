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
    known = labelled(env, as_of, EPOCH, as_of)
    span = "SELECT count(*) AS rows, min(prediction_time) AS first, max(prediction_time) AS last FROM given.known"
    (of,) = env.engine.query(span, given={"given.known": known}).arrow().to_pylist()
    if not of["rows"]:
        raise NotEnoughDataError(f"no labelled rows as of {as_of}: {_why_none(env, as_of)}")
    rows = (
        f"{train:,} labelled rows to train on and {holdout:,} held out, and training.min_rows is {settings.min_rows:,}"
    )
    there = f"{of['rows']:,} are known as of {as_of}, with prediction times from {of['first']} to {of['last']}"
    raise NotEnoughDataError(f"{rows}. {there}; {_parting(settings, as_of, of['first'], of['last'])}")


def _parting(settings: TrainingSettings, as_of: datetime, first: datetime, last: datetime) -> str:
    """How the settings part labelled rows with prediction times from `first` to `last`."""
    if settings.split != "time":
        return f"training.holdout_share of {settings.holdout_share:g} parts them"
    split = as_of - settings.holdout
    start = _start(settings, split)
    if last <= start:
        return f"none is after {start}, where training.history begins: say an --as-of closer to them"
    if first > split:
        return (
            f"training.holdout holds out all after {split}, so it is longer than the data: shorten it, or take "
            "training.split: random for data without times"
        )
    return (
        f"those up to {split} are trained on where their label was known then, those after it held out "
        "(training.holdout). Data without times, or delivered at once, want training.split: random"
    )


def _why_none(env: Environment, as_of: datetime) -> str:
    """What sql/entities.sql and sql/labels.sql give, where nothing comes of it."""
    said = []
    for name in ("entities.sql", "labels.sql"):
        sql = f"SELECT count(*) AS rows, min(available_at) AS first FROM ({env.project.sql(name)}\n)"
        known, ever = (env.engine.query(sql, as_of=time).arrow().to_pylist()[0] for time in (as_of, None))
        later = f" (the first is known at {ever['first']})" if ever["rows"] and not known["rows"] else ""
        said.append(f"sql/{name} gives {known['rows'] or 'no'} rows known by then{later}")
    if not any(" no rows" in text for text in said):
        keys = ", ".join(env.project.entity.keys)
        said.append(f"but no label is of an entity ({keys}) that was known by its prediction time")
    return ", ".join(said)


def _digest(*tables: pa.Table) -> str:
    """Identifies the rows whatever Delta version they are read from: later rows do not change an earlier view."""
    digest = hashlib.sha256()
    for table in tables:
        frame = table.to_pandas()  # not Arrow's buffers: where a value is missing, they hold whatever was there
        floats = dict.fromkeys(frame.select_dtypes("floating"), "float32")
        digest.update(pd.util.hash_pandas_object(frame.astype(floats), index=False).to_numpy().tobytes())
    return digest.hexdigest()[:16]
