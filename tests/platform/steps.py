"""What tests of pipelines share: settings on top, time that passes, and tables as frames."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
import yaml

from mlplatform.contract import Project
from mlplatform.environment import Environment
from mlplatform.pipelines.featurize import featurize
from mlplatform.pipelines.ingest import ingest
from mlplatform.registry import approval
from mlplatform.registry.store import Registry
from mlplatform.registry.transitions import Decision, Transition
from tiny.deliveries import land

Writer = tuple[Any, str]
"""What writes: a class or module, and the name of a function of it."""


def overlay(project: Path, name: str, settings: dict[str, Any]) -> str:
    """Write conf/<name>.yml, to load on top of the other layers. Returns its name."""
    (project / "conf" / f"{name}.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return name


def advance(env: Environment, as_of: datetime) -> None:
    """Bring an environment's data up to a time."""
    land(env.landing, as_of)
    ingest(env, as_of)
    featurize(env, as_of)


def another(env: Environment, number: int, to: str, at: datetime) -> None:
    """Make version `number` of what version 1 is made of, and move it to a stage."""
    registry = Registry(env)
    first = registry.version(1)
    tags = {**first.tags, "identity": f"another {number}"}
    registry.client.create_model_version(registry.model, first.source, first.run_id, tags)
    decision = Decision(at, "a test", "a newer one")
    if to == "Production":
        request = Transition(registry.model, number, "None", "Production", at, "a test", "a newer one")
        approval.approve(registry, request, decision)
    else:
        move = Transition(registry.model, number, "None", "Staging", at, "a test", "a newer one")
        registry.ledger.record(move.closed("approved", at, "a test", "a newer one"))


def read(env: Environment, name: str) -> pl.DataFrame:
    """A table as a frame; without rows or columns where it is not there."""
    return pl.DataFrame(env.catalog.read(name)) if env.catalog.exists(name) else pl.DataFrame()


def files(folder: Path) -> dict[Path, int]:
    """Every file below a folder and when it was last written: equal where nothing was touched."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@dataclass(frozen=True, kw_only=True)
class Edited(Project):
    """The tiny project with other SQL in some files."""

    edits: Mapping[str, str] = field(default_factory=dict)

    def sql(self, path: str) -> str:
        return self.edits.get(path) or super().sql(path)


def twice(entities: int) -> pa.Table:
    """Two rows of each entity, which keys of several types name."""
    numbers = [*range(entities), *range(entities)]
    return pa.table(
        {
            "name": [f"Zoë | {n}'s" for n in numbers],
            "number": pa.array([n * 10**9 - 5 for n in numbers], pa.int64()),
            "day": [date(1969, 12, 1) + timedelta(days=n) for n in numbers],
            "prediction_time": [datetime(2025, 1, 1) + timedelta(hours=place) for place in range(len(numbers))],
        }
    )


@contextmanager
def forbidden(folder: Path, *, folders: int = 0o555, files: int = 0o444) -> Iterator[None]:
    """Below the folder nobody but its owner may do more than these rights say, and this process is somebody else."""
    before = {path: path.stat().st_mode for path in [folder, *folder.rglob("*")]}
    for path in reversed(before):
        path.chmod(folders if path.is_dir() else files)
    root = os.geteuid() == 0
    parents = {parent: parent.stat().st_mode for parent in folder.parents if root and parent.stat().st_uid == 0}
    for parent, mode in parents.items():
        if parent != Path("/"):
            parent.chmod(mode | 0o055)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path, mode in [*before.items(), *parents.items()]:
            if path != Path("/"):
                path.chmod(mode)


class Killed(BaseException):
    """The process is dead: whatever it still tries to write fails."""


class Mortal:
    """Lets a process make so many writes, and no more; `cause` names the one it died of.

    To die after a write is to die before the next one: nothing else that counts reaches the disk in between.
    """

    def __init__(self, patch: pytest.MonkeyPatch, survives: int, writers: Sequence[Writer]) -> None:
        self.cause = ""
        self._left = survives
        self._inside = False
        for owner, name in writers:
            patch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, write: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(write)
        def counted(*arguments: Any, **named: Any) -> Any:
            if self._inside:
                return write(*arguments, **named)
            if self._left <= 0:
                self.cause = self.cause or f"{write.__name__}{arguments[1:2]}"
                raise Killed
            self._left -= 1
            self._inside = True
            try:
                return write(*arguments, **named)
            finally:
                self._inside = False

        return counted
