"""Who answers: the version in Production, loaded and tried before it takes over, and swapped when its stage moves."""

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from mlplatform.config.serving import ServingSettings
from mlplatform.contract import RowScorer
from mlplatform.environment import Environment
from mlplatform.errors import UserError
from mlplatform.features.frames import entities
from mlplatform.monitoring.notify import notify
from mlplatform.registry.scoring import Scorer, input_example, load
from mlplatform.registry.store import Registry
from mlplatform.serving.quick import differs, row_scorer
from mlplatform.storage import ops
from mlplatform.storage.catalog import Span, Window

_WARM = 20  # calls
_PAUSE, _LONGEST_PAUSE = 10.0, 600.0  # seconds before a version that could not be loaded is tried again


class BrokenVersionError(UserError):
    """A version that cannot serve: it does not load, or does not score its own example."""


@dataclass(frozen=True)
class Served:
    """A version at work. `schema` is that of joined rows."""

    version: int
    run_id: str
    threshold: float | None
    scorer: Scorer
    quick: RowScorer | None
    schema: pa.Schema
    example: Mapping[str, Any]

    def scores(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """The scores of joined rows, as batch inference gives them: shape (n,) or (n, classes)."""
        if self.quick is not None and len(rows) == 1:
            return np.array([self.quick(rows[0])], dtype="float64")
        return self.scorer.scores(pa.Table.from_pylist(list(rows), self.schema).to_pandas())


class Stage:
    """The version that a stage holds: `current`, which `look` swaps in one step. Not there: None."""

    def __init__(
        self,
        registry: Registry,
        schema: pa.Schema,
        clock: Callable[[], datetime],
        find: Callable[[datetime], int | None],
    ) -> None:
        self._registry, self._schema, self._clock, self._find = registry, schema, clock, find
        self._refused: int | None = None
        self._again = self._pause = 0.0
        self.current: Served | None = None
        self.swaps = 0

    def look(self) -> None:
        """Load who holds the stage now, if that is another version. One that is broken changes nothing but an alert.

        It is tried again, more and more seldom: what holds its files may have been away.
        """
        version = self._find(self._clock())
        is_refused = version == self._refused and version is not None
        if version == (self.current.version if self.current else None) or (
            is_refused and time.monotonic() < self._again
        ):
            return
        try:
            served = open_version(self._registry, version, self._schema) if version is not None else None
        except Exception as error:  # whatever a foreign model raises, the old one goes on
            self._pause = min(2 * self._pause, _LONGEST_PAUSE) if is_refused else _PAUSE
            self._refused, self._again = version, time.monotonic() + self._pause
            if is_refused:
                return
            keeps = f"version {self.current.version} goes on serving" if self.current else "nothing is served"
            alarm(
                self._registry, self._clock(), f"version {version} cannot serve: {error}; {keeps}", float(version or 0)
            )
            return
        self.current, self._refused = served, None
        self.swaps += 1


class Watch(threading.Thread):
    """Looks at stages every so often, until it is stopped."""

    def __init__(self, stages: Sequence[Stage], every: timedelta) -> None:
        super().__init__(name="stages", daemon=True)
        self.stages, self._every, self._stopped = stages, every.total_seconds(), threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(self._every):
            for stage in self.stages:
                try:
                    stage.look()
                except Exception as error:  # the registry may be away for a while; requests need it for nothing
                    sys.stderr.write(f"serving: who is champion cannot be read: {error!r}\n")

    def stop(self) -> None:
        self._stopped.set()


def open_version(registry: Registry, number: int, schema: pa.Schema) -> Served:
    """Load a version, prove its quick scorer, warm it up. Raises BrokenVersionError, or what the model raises."""
    project, settings = registry.env.project, registry.env.config.of(ServingSettings)
    files, tags = registry.files(number, "model"), registry.tags(number)
    scorer, example = load(project.model, files), input_example(files)
    if example is not None:
        scores = np.asarray(project.model.predict(scorer.fitted, example), dtype="float64")
        if len(scores) != len(example) or not np.isfinite(scores).all():
            raise BrokenVersionError("it does not score its own example")
    rows = _recent_rows(registry, tags.held_out.span, settings.proof_rows)
    quick = row_scorer(scorer, project.labels.classes)
    if quick is not None:
        reason = "no held-out rows are there to try it on"
        if rows is not None:
            reason = differs(scorer, quick, rows.to_pandas(), rows.to_pylist())
        if reason:
            sys.stderr.write(f"serving: version {number}: its quick scorer is left aside: {reason}\n")
            quick = None
    shown = {} if example is None else json.loads(example.head(1).to_json(orient="records"))[0]
    served = Served(number, registry.version(number).run_id, tags.threshold, scorer, quick, schema, shown)
    for row in rows.slice(0, _WARM).to_pylist() if rows is not None else []:
        served.scores([row])
    return served


def _recent_rows(registry: Registry, span: Span, number: int) -> pa.Table | None:
    """The newest of a version's held-out rows, joined; None where they are not there any more."""
    found: list[pa.Table] = []
    for part in Window("prediction_time", *span).backwards():
        try:
            rows = entities(registry.env, span.end, part.after or span.start, part.until or span.end)
            found.insert(0, pa.Table.from_batches(islice(rows.batches(), 1), rows.schema))
        except UserError:
            break
        if sum(table.num_rows for table in found) >= number:
            break
    together = pa.concat_tables(found) if found else None
    return together.slice(max(0, together.num_rows - number)) if together else None


def alarm(registry: Registry, now: datetime, message: str, value: float, about: str = "all") -> None:
    """Write an alert into `ops.alerts`, in the slice `about`, and tell people."""
    env = registry.env
    row = {
        **{"rule": "serving", "column": registry.model, "slice": about, "window_end": now, "value": value},
        **{"threshold": 0.0, "raised_at": datetime.now(UTC).replace(tzinfo=None), "action": "notify"},
        "message": message,
    }
    try:
        env.catalog.upsert(ops.ALERTS, ops.rows(ops.ALERTS, [row]), ops.KEYS[ops.ALERTS])
    except Exception as error:  # another writer was quicker, or the disk is full: people are told all the same
        sys.stderr.write(f"serving: {ops.ALERTS} is not written: {error!r}\n")
    notify(f"{env.name}: a new alert", [f"serving: {message}"], env.config.monitoring.notify)


def joined_schema(env: Environment, now: datetime) -> pa.Schema:
    """The columns of joined rows and their types, as batch inference has them."""
    return entities(env, now, now, now).schema
