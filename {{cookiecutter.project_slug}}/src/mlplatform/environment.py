"""An environment: its settings, its tables, its engine, and the record of what ran in it."""

import time
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mlplatform.config.loading import find_project, load_config
from mlplatform.config.root import Config
from mlplatform.contract import Project
from mlplatform.engine.duckdb import DuckDb
from mlplatform.errors import ForbiddenError
from mlplatform.revision import NotReleasedError, code_version, released_version
from mlplatform.storage.delta import Source, Tables

RUNS = "ops.runs"
READ_TOGETHER = ("silver", "features")


@dataclass
class Run:
    """One run of a pipeline: what it wrote and what it has to say."""

    pipeline: str
    as_of: datetime
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    written: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def wrote(self, table: str, rows: int) -> None:
        self.written[table] = self.written.get(table, 0) + rows

    def note(self, text: str) -> None:
        self.notes.append(text)


class Environment:
    """dev, staging or prod.

    Every pipeline works inside `run`, which refuses unreleased code where the settings ask for releases and records
    the run in `ops.runs` as its last act: the completion marker.
    """

    def __init__(
        self, name: str, project: Project, folder: Path, config: Config, overlays: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self.project = project
        self.folder = folder
        self.config = config
        self._overlays = overlays
        self.tables = Tables(folder / config.lakehouse.root, owner=name)

    @classmethod
    def load(
        cls, name: str, project: Project, folder: Path | None = None, overlays: tuple[str, ...] = ()
    ) -> "Environment":
        """Read the settings of environment `name`; raises ConfigError."""
        folder = folder or find_project()
        return cls(name, project, folder, load_config(folder, name, overlays), overlays)

    def config_of(self, owner: str) -> Config:
        """The settings of an environment: this one's, or another's."""
        return self.config if owner == self.name else load_config(self.folder, owner, self._overlays)

    @cached_property
    def code(self) -> str:
        return code_version(self.folder)

    @cached_property
    def sources(self) -> Tables:
        """The tables from which silver and features are read: this environment's, or another's."""
        return self.tables_of(self.config.lakehouse.features_from or self.name)

    def tables_of(self, owner: str) -> Tables:
        """The tables of an environment: this one's, or another's, which can only be read."""
        if owner == self.name:
            return self.tables
        return Tables(self.folder / self.config_of(owner).lakehouse.root, owner=owner, reader=self.name)

    def refuse_to_build_what_is_borrowed(self) -> None:
        """Raise ForbiddenError where silver and features are another environment's: they are read only."""
        if self.sources is not self.tables:
            raise ForbiddenError(
                f"{self.name} reads {self.sources.owner}'s silver and feature tables and never writes them: "
                f"set lakehouse.features_from to null in conf/{self.name}.yml to build its own"
            )

    @cached_property
    def engine(self) -> DuckDb:
        return DuckDb(self.find, memory_limit=self.config.lakehouse.memory_limit)

    def find(self, name: str) -> Source | None:
        """The table that `name` means here: external, another environment's, or this one's."""
        for external in self.config.lakehouse.external_views:
            if name == f"features.{external.view}":
                path = self.folder / external.path
                return Tables(path.parent.parent, owner="another team").source(f"{path.parent.name}.{path.name}")
        tables = self.sources if name.split(".")[0] in READ_TOGETHER else self.tables
        return tables.source(name) if tables.exists(name) else None

    @contextmanager
    def run(self, pipeline: str, as_of: datetime) -> Iterator[Run]:
        """Run a pipeline.

        Before any work raises ForbiddenError where the settings refuse this pipeline, and NotReleasedError where
        only releases may run.
        """
        if pipeline in self.config.pipelines.refused:
            raise ForbiddenError(f"{self.name} does not {pipeline}: see pipelines.refused in conf/{self.name}.yml")
        if self.config.pipelines.released_code_only:
            try:
                released_version(self.folder)
            except NotReleasedError as error:
                raise NotReleasedError(
                    f"{self.name} runs released code only (pipelines.released_code_only): {error}"
                ) from error
        run = Run(pipeline, as_of)
        started, clock = datetime.now(UTC).replace(tzinfo=None), time.perf_counter()
        try:
            yield run
        except BaseException as error:
            self._record(run, started, clock, "failed", "".join(traceback.format_exception_only(error)).strip())
            raise
        self._record(run, started, clock, "finished", "")

    def last_finished(self, pipeline: str, before: datetime) -> datetime | None:
        """The latest `as_of` earlier than `before` for which the pipeline finished."""
        return max((as_of for as_of in self._finished(pipeline) if as_of < before), default=None)

    def has_finished(self, pipeline: str, as_of: datetime) -> bool:
        return as_of in self._finished(pipeline)

    def _finished(self, pipeline: str) -> set[datetime]:
        if not self.tables.exists(RUNS):
            return set()
        mine = (pc.field("pipeline") == pipeline) & (pc.field("status") == "finished")
        return set(self.tables.read(RUNS, ["as_of"], mine)["as_of"].to_pylist())

    def _record(self, run: Run, started: datetime, clock: float, status: str, error: str) -> None:
        self.tables.append(
            RUNS,
            pa.table(
                {
                    "run_id": [run.run_id],
                    "pipeline": [run.pipeline],
                    "as_of": pa.array([run.as_of], pa.timestamp("us")),
                    "started_at": pa.array([started], pa.timestamp("us")),
                    "seconds": [time.perf_counter() - clock],
                    "rows": pa.array([sum(run.written.values())], pa.int64()),
                    "status": [status],
                    "error": [error],
                    "code": [self.code],
                }
            ),
        )
