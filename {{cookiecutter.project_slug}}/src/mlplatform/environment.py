"""An environment: its settings, its tables, its engine, and the record of what ran in it."""

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from mlplatform.config.loading import Config, find_project, load_config, suggestion
from mlplatform.contract import Project
from mlplatform.engine import ENGINES, Cluster, Engine
from mlplatform.errors import ForbiddenError, MissingTableError, StorageError, UserError
from mlplatform.revision import NotReleasedError, code_version, released_version
from mlplatform.storage import ops
from mlplatform.storage.address import place
from mlplatform.storage.catalog import Catalog, Snapshot, Window, load, open_catalog

READ_TOGETHER = ("silver", "features")


@dataclass
class Run:
    """One run of a pipeline: what it wrote and what it has to say."""

    pipeline: str
    as_of: datetime
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    written: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    lag_seconds: float | None = None
    kept: bool = True  # in ops.runs, once it has finished

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
        self.catalog = self.catalog_of(name)

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

    @property
    def title(self) -> str:
        return self.config.monitoring.title or self.project.title

    @cached_property
    def code(self) -> str:
        return code_version(self.folder)

    @cached_property
    def sources(self) -> Catalog:
        """The tables from which silver and features are read: this environment's, or another's."""
        owner = self.config.lakehouse.features_from or self.name
        return self.catalog if owner == self.name else self.catalog_of(owner)

    def catalog_of(self, owner: str) -> Catalog:
        """The tables of an environment: this one's, or another's, which can only be read."""
        return open_catalog(self.folder, self.config_of(owner).lakehouse.root, owner=owner, reader=self.name)

    @property
    def landing(self) -> Any:
        """Where source files arrive: a Path, or a Remote, which has as much of one as is needed to read there."""
        return place(self.folder, self.config.lakehouse.landing, "lakehouse.landing")

    @property
    def reports(self) -> Path:
        """The folder of what people read: the dashboard, and reviews that wait for them."""
        if self.config.lakehouse.reports:
            return self.folder / self.config.lakehouse.reports
        root = place(self.folder, self.config.lakehouse.root, "lakehouse.root")
        return root if isinstance(root, Path) else self.folder / "data" / self.name

    def refuse_to_build_what_is_borrowed(self) -> None:
        """Raise ForbiddenError where silver and features are another environment's: they are read only."""
        if self.sources is not self.catalog:
            raise ForbiddenError(
                f"{self.name} reads {self.sources.owner}'s silver and feature tables and never writes them: "
                f"set lakehouse.features_from to null in conf/{self.name}.yml to build its own"
            )

    @cached_property
    def engine(self) -> Engine:
        settings = self.config.lakehouse
        cluster = Cluster(settings.spark, self.folder, self.project.package)
        made: Engine = load(ENGINES, settings.engine, "lakehouse.engine")(
            self.table, memory_limit=settings.memory_limit, cluster=cluster
        )
        return made

    def find(self, name: str) -> Snapshot | None:
        """The table that `name` means here: external, another environment's, or this one's."""
        for external in self.config.lakehouse.external_views:
            if name == f"features.{external.view}":
                *root, schema, table = external.path.rstrip("/").split("/")
                other = open_catalog(self.folder, "/".join(root) or ".", owner="another team", reader=self.name)
                return other.snapshot(f"{schema}.{table}")
        catalog = self.sources if name.split(".")[0] in READ_TOGETHER else self.catalog
        return catalog.snapshot(name) if catalog.exists(name) else None

    def table(self, name: str) -> Snapshot:
        """The same table; raises MissingTableError, which says what makes it, or which name was probably meant."""
        found = self.find(name)
        if found is None:
            raise MissingTableError(self._why_missing(name))
        return found

    def _why_missing(self, name: str) -> str:
        borrowed = name.split(".")[0] in READ_TOGETHER and self.sources is not self.catalog
        owner = self.sources.owner if borrowed else self.name
        landing = self.config_of(owner).lakehouse.landing
        read = {source.name: source.origin(f"{landing}/{source.name}/") for source in self.project.sources}
        ingested = {f"bronze.{source.name}": source.name for source in self.project.sources}
        ingested |= {table.table: table.source for table in self.project.tables}
        made = {table: f"run `ingest --env {owner}`, which reads {read.get(of, of)}" for table, of in ingested.items()}
        made |= {view.table: f"run `featurize --env {owner}`" for view in self.project.views}
        made |= {
            f"{ops.QUARANTINE}{table.partition('.')[2]}": "`ingest` has refused no row of it" for table in ingested
        }
        made[f"predictions.{self.config.registry.model}"] = f"run `infer --env {owner}`, once there is a champion"
        made |= {table: "nothing has been recorded in it" for table in ops.SCHEMAS if not table.endswith(".")}
        if name not in made:
            return f"there is no table {name}{suggestion(name, list({*made, *self.catalog.names()}))}"
        reads = f" ({self.name} reads {owner}'s: lakehouse.features_from in conf/{self.name}.yml)" if borrowed else ""
        return f"{owner} has no {name} yet: {made[name]}{reads}"

    def permit(self, pipeline: str) -> None:
        """Raise ForbiddenError where the settings refuse a pipeline, NotReleasedError where only releases may run."""
        if pipeline in self.config.pipelines.refused:
            raise ForbiddenError(f"{self.name} does not {pipeline}: see pipelines.refused in conf/{self.name}.yml")
        if self.config.pipelines.released_code_only:
            try:
                released_version(self.folder)
            except NotReleasedError as error:
                raise NotReleasedError(
                    f"{self.name} runs released code only (pipelines.released_code_only): {error}"
                ) from error

    @contextmanager
    def run(self, pipeline: str, as_of: datetime, *, permitted: bool = False) -> Iterator[Run]:
        """Run a pipeline. One at a time: whoever comes second waits, and finds what the first has done.

        Before any work raises what `permit` does, unless the caller has asked for that already.
        """
        if not permitted:
            self.permit(pipeline)
        run = Run(pipeline, as_of)
        with self.catalog.lease(f"{pipeline} as of {as_of} (process {os.getpid()})"):
            started, clock = ops.now(), time.perf_counter()
            try:
                yield run
            except BaseException as error:
                told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                with suppress(StorageError):  # where the disk is full, for one: what went wrong first is told
                    self._record(run, started, clock, "failed", told)
                raise
            if run.kept:
                self._record(run, started, clock, "finished", "")

    def last_finished(self, pipeline: str, before: datetime) -> datetime | None:
        """The latest `as_of` earlier than `before` for which the pipeline finished."""
        for window in Window("as_of", until=before - timedelta.resolution).backwards():
            if finished := self._finished(pipeline, window):
                return max(finished)
        return None

    def has_finished(self, pipeline: str, as_of: datetime) -> bool:
        return bool(self._finished(pipeline, Window("as_of", as_of - timedelta.resolution, as_of)))

    def _finished(self, pipeline: str, window: Window) -> list[datetime]:
        runs = self.catalog.read(ops.RUNS, ["pipeline", "status", "as_of"], window).to_pylist()
        return [run["as_of"] for run in runs if (run["pipeline"], run["status"]) == (pipeline, "finished")]

    def _record(self, run: Run, started: datetime, clock: float, status: str, error: str) -> None:
        row = {
            "run_id": run.run_id,
            "pipeline": run.pipeline,
            "as_of": run.as_of,
            "started_at": started,
            "seconds": time.perf_counter() - clock,
            "rows": sum(run.written.values()),
            "status": status,
            "error": error,
            "code": self.code,
            "lag_seconds": run.lag_seconds,
        }
        self.catalog.append(ops.RUNS, ops.rows(ops.RUNS, [row]))
