"""What tests of pipelines share: settings on top, time that passes, and tables as frames."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from mlplatform.contract import Project
from mlplatform.environment import Environment
from mlplatform.pipelines.featurize import featurize
from mlplatform.pipelines.ingest import ingest
from tiny.deliveries import land


def overlay(project: Path, name: str, settings: dict[str, Any]) -> str:
    """Write conf/<name>.yml, to load on top of the other layers. Returns its name."""
    (project / "conf" / f"{name}.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return name


def advance(env: Environment, as_of: datetime) -> None:
    """Bring an environment's data up to a time."""
    land(env.landing, as_of)
    ingest(env, as_of)
    featurize(env, as_of)


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
