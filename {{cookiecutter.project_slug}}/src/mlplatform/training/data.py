"""The data of one training: the labelled rows known at a time, parted into training rows and held-out rows."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import pandas as pd
import pyarrow as pa

from mlplatform.config.sections import TrainingSettings
from mlplatform.environment import Environment
from mlplatform.errors import UserError
from mlplatform.features.frames import Sample, labelled, labelled_sample
from mlplatform.registry.scoring import as_trained
from mlplatform.registry.tags import HeldOut, Sampled
from mlplatform.storage.catalog import Snapshot, Span, Window
from mlplatform.training import labels

BEGIN = datetime.min  # earlier than any row
_PART = 100_000  # rows whose hash is computed at once


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
    sampled: Sampled
    notes: tuple[str, ...] = ()

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
    samples = [
        labelled_sample(env, known, *rows, settings.fraction, settings.max_rows)
        for known, rows in _spans(as_of, span, held_out)
    ]
    sampled, notes = Sampled(samples[0].share, samples[-1].share, settings.max_rows), tuple(_notes(samples))
    # One after the other, so that Arrow's rows and those of pandas are not in memory together for both.
    train, holdout = map(pa.Table.to_pandas, _parted((sample.rows.arrow() for sample in samples), held_out))
    for name in [n for n in train if {train[n].dtype.kind, holdout[n].dtype.kind} == {"i", "f"}]:
        # Pandas makes floats of whole numbers where one is missing: of both parts, or a category has two names.
        train[name], holdout[name] = (part[name].astype("float64") for part in (train, holdout))
    _refuse_few(env, as_of, len(train), len(holdout), notes)
    as_trained(env.project.model.inputs, train.head(1), None)  # are all that it asks for there?
    labels.check(env.project.labels, train["label"], holdout["label"], settings.min_class_rows)
    of_views = tuple(f"{view.name}__" for view in env.project.views)
    if empty := [name for name in train.columns if name.startswith(of_views) and train[name].isna().all()]:
        notes += (f"no training row has a value of {', '.join(empty)}: is the view's ttl too short?",)
    if settings.split == "time" and (last := holdout["prediction_time"].max()) < as_of - settings.holdout / 2:
        notes += (
            f"held out are {len(holdout):,} rows with prediction times from {as_of - settings.holdout} to {last}: of "
            "newer ones no label is known yet. Make training.holdout longer than labels take",
        )
    tables = [t.table for t in env.project.tables] + [view.table for view in env.project.views]
    found = {name: table for name in tables if (table := env.find(name))}
    return TrainingData(train, holdout, span, held_out, found, _digest(train, holdout), sampled, notes)


def parts(
    env: Environment, as_of: datetime, trained_on: Span, held_out: HeldOut, sampled: Sampled, among: pa.Table
) -> tuple[pa.Table, pa.Table]:
    """The labelled rows that a version was trained on and those that were held out, of these entity keys."""
    spans = zip(_spans(as_of, trained_on, held_out), (sampled.trained, sampled.held_out), strict=False)
    train, holdout = _parted(
        (labelled(env, time, *span, share, among).arrow() for (time, span), share in spans), held_out
    )
    return train, holdout


def _spans(as_of: datetime, trained_on: Span, held_out: HeldOut) -> list[tuple[datetime, Span]]:
    """Of the rows to train on and those held out: when their labels have to be known, and their prediction times."""
    if held_out.columns:
        return [(as_of, trained_on)]
    # As if trained when the held-out period began: what was not known then would tell of it.
    return [(trained_on.end, trained_on), (as_of, held_out.span)]


def _parted(tables: Iterable[pa.Table], held_out: HeldOut) -> Iterator[pa.Table]:
    """The rows to train on and those held out, from those of `_spans`."""
    if not held_out.columns:
        yield from tables
        return
    (rows,) = tables
    if missing := set(held_out.columns) - set(rows.schema.names):
        raise NotEnoughDataError(f"training.group: the joined rows have no column {', '.join(missing)}")
    chosen = pa.array(held_out.chosen(rows))
    yield rows.filter(pa.compute.invert(chosen))
    yield rows.filter(chosen)


def _notes(samples: list[Sample]) -> Iterator[str]:
    names = ("training", "held-out") if len(samples) > 1 else ("labelled",)
    for name, (_, share, taken, total) in zip(names, samples, strict=True):
        if taken < total:
            kept = f"{taken:,} of {total:,} {name} rows are taken, those of {share:.3%} of the entities"
            yield f"{kept} (training.max_rows)"


def _start(settings: TrainingSettings, end: datetime) -> datetime:
    return end - settings.history if settings.history else BEGIN


def _refuse_few(env: Environment, as_of: datetime, train: int, holdout: int, notes: Iterable[str]) -> None:
    settings = env.config.training
    if min(train, holdout) >= settings.min_rows:
        return
    known = labelled(env, as_of, BEGIN, as_of)
    span = "SELECT count(*) AS rows, min(prediction_time) AS first, max(prediction_time) AS last FROM given.known"
    (of,) = env.engine.query(span, given={"given.known": known}).arrow().to_pylist()
    if not of["rows"]:
        raise NotEnoughDataError(f"no labelled rows as of {as_of}: {_why_none(env, as_of)}")
    rows = (
        f"{train:,} labelled rows to train on and {holdout:,} held out, and training.min_rows is {settings.min_rows:,}"
    )
    there = f"{of['rows']:,} are known as of {as_of}, with prediction times from {of['first']} to {of['last']}"
    why = _parting(settings, as_of, of["first"], of["last"])
    raise NotEnoughDataError(". ".join((rows, *notes, f"{there}; {why}")))


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
        sql = f"SELECT count(*) AS rows, min(available_at) AS first FROM ({env.project.sql(name)}\n) WHERE "
        limits = [(time, Window("available_at", until=time).predicate("TIMESTAMP ")) for time in (as_of, None)]
        known, ever = (env.engine.query(sql + limit, as_of=time).arrow().to_pylist()[0] for time, limit in limits)
        later = f" (the first is known at {ever['first']})" if ever["rows"] and not known["rows"] else ""
        said.append(f"sql/{name} gives {known['rows'] or 'no'} rows known by then{later}")
    if not any(" no rows" in text for text in said):
        keys = ", ".join(env.project.entity.keys)
        said.append(f"but no label is of an entity ({keys}) that was known by its prediction time")
    return ", ".join(said)


def _digest(*frames: pd.DataFrame) -> str:
    """Identifies the rows whatever Delta version they are read from: later rows do not change an earlier view."""
    digest = hashlib.sha256()
    for frame in frames:  # not Arrow's buffers: where a value is missing, they hold whatever was there
        floats = {name: "float32" for name, kind in frame.dtypes.items() if pd.api.types.is_float_dtype(kind)}
        for start in range(0, len(frame), _PART):
            part = frame.iloc[start : start + _PART].astype(floats)
            digest.update(pd.util.hash_pandas_object(part, index=False).to_numpy().tobytes())
    return digest.hexdigest()[:16]
