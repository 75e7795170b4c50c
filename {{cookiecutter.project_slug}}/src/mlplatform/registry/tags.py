"""What every version carries in its tags in MLflow: one typed record, readable whatever release has written it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mlplatform.errors import UserError
from mlplatform.storage.catalog import Span


class IncompleteVersionError(UserError):
    """A version lacks what `train` writes: it was made otherwise."""


@dataclass(frozen=True)
class HeldOut:
    """Which labelled rows a version is judged on and was not trained on: those with prediction times in `span`.

    With `columns` it is a share of them, by a hash of these columns: always the same rows, whatever comes later.
    """

    span: Span
    columns: tuple[str, ...] = ()
    share: float = 1.0
    seed: int = 0

    def chosen(self, rows: pa.Table) -> np.ndarray:
        """Which rows of the span are held out, as booleans of shape (n,)."""
        if not self.columns:
            return np.ones(rows.num_rows, dtype=bool)
        limit = self.share * 2**32
        seeded = (f"{self.seed}|{text}".encode() for text in self._texts(rows))
        return np.array([int.from_bytes(hashlib.sha256(t).digest()[:4]) < limit for t in seeded], dtype=bool)

    def blocks(self, rows: pa.Table, length: timedelta) -> np.ndarray:
        """The block of each row, for the comparison: a span of time as long as `length`, or a value of the columns."""
        if self.columns:
            return np.array(self._texts(rows))
        times = rows["prediction_time"].to_numpy()
        return np.asarray((times - np.datetime64(0, "us")) // np.timedelta64(length))

    def _texts(self, rows: pa.Table) -> list[str]:
        columns = (rows[name].cast(pa.string()).to_pylist() for name in self.columns)
        return ["|".join(map(str, values)) for values in zip(*columns, strict=True)]


class Sampled(NamedTuple):
    """The share of the entities that a version was trained on, and of those held out; and what limited it."""

    trained: float
    held_out: float
    max_rows: int


@dataclass(frozen=True, kw_only=True)
class VersionTags:
    """The record of one version. `metrics` and `baseline` were measured on the held-out rows.

    Releases up to 0.3.0 did not say what they `sampled`. `threshold` is that of decisions by binary scores, if the
    model asks for one. `promoted_...` say where a version comes from that was not trained here.
    """

    env: str
    as_of: datetime
    identity: str
    code: str
    config: str
    data_digest: str
    data_versions: Mapping[str, int]
    feature_views: tuple[str, ...]
    parameters: Mapping[str, Any]
    tuned: bool
    trained_on: Span
    held_out: HeldOut
    sampled: Sampled | None = None
    summary: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    baseline: Mapping[str, float] = field(default_factory=dict)
    threshold: float | None = None
    promoted_from: str = ""
    promoted_version: int | None = None
    promoted_run: str = ""

    def as_tags(self) -> dict[str, str]:
        """What MLflow keeps. Names are only ever added, since older versions are read, too."""
        held_out, promotion = self.held_out, {}
        if self.promoted_from:  # in this order: what carries the last one carries the others
            promotion = {
                "promoted_version": str(self.promoted_version),
                "promoted_run": self.promoted_run,
                "promoted_from": self.promoted_from,
            }
        return {
            "env": self.env,
            "as_of": self.as_of.isoformat(),
            "identity": self.identity,
            "code": self.code,
            "config": self.config,
            "data_digest": self.data_digest,
            "data_versions": json.dumps(dict(self.data_versions)),
            "feature_views": ",".join(self.feature_views),
            "parameters": json.dumps(dict(self.parameters)),
            "tuned": str(self.tuned).lower(),
            "train_start": self.trained_on.start.isoformat(),
            "train_end": self.trained_on.end.isoformat(),
            "holdout_start": held_out.span.start.isoformat(),
            "holdout_end": held_out.span.end.isoformat(),
            "holdout_by": json.dumps([held_out.columns, held_out.share, held_out.seed]),
            **({} if self.sampled is None else {"sampled": json.dumps(self.sampled)}),
            "summary": self.summary,
            **({} if self.threshold is None else {"threshold": repr(self.threshold)}),
            **{f"metric.{name}": f"{value:.6f}" for name, value in self.metrics.items()},
            **{f"baseline.{name}": f"{value:.6f}" for name, value in self.baseline.items()},
        } | promotion

    @classmethod
    def of(cls, tags: Mapping[str, str]) -> "VersionTags":
        """The record that tags hold; raises IncompleteVersionError. Releases up to 0.2.0 split by time only."""

        def time(name: str) -> datetime:
            return datetime.fromisoformat(tags[name])

        def measured(prefix: str) -> dict[str, float]:
            return {name.removeprefix(prefix): float(tags[name]) for name in tags if name.startswith(prefix)}

        try:
            start, end = tags.get("holdout_start", tags["train_end"]), time("holdout_end")
            columns, share, seed = json.loads(tags.get("holdout_by", "[[], 1.0, 0]"))
            return cls(
                **{name: tags[name] for name in ("env", "identity", "code", "config", "data_digest", "summary")},
                as_of=time("as_of"),
                data_versions=json.loads(tags["data_versions"]),
                feature_views=tuple(filter(None, tags["feature_views"].split(","))),
                parameters=json.loads(tags["parameters"]),
                tuned=tags["tuned"] == "true",
                trained_on=Span(time("train_start"), time("train_end")),
                held_out=HeldOut(Span(datetime.fromisoformat(start), end), tuple(columns), share, seed),
                sampled=Sampled(*json.loads(tags["sampled"])) if "sampled" in tags else None,
                metrics=measured("metric."),
                baseline=measured("baseline."),
                threshold=float(tags["threshold"]) if "threshold" in tags else None,
                promoted_from=tags.get("promoted_from", ""),
                promoted_version=int(tags["promoted_version"]) if "promoted_version" in tags else None,
                promoted_run=tags.get("promoted_run", ""),
            )
        except KeyError as error:
            raise IncompleteVersionError(f"the tag {error} is missing: `train` and `promote` write it") from error
