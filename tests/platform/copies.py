"""Copies of the tiny project, to make mistakes in."""

import importlib
import shutil
from itertools import count
from pathlib import Path
from typing import NamedTuple

from mlplatform.contract import Deliveries, Project
from mlplatform.testing.check import problems

HERE = Path(__file__).resolve().parent
NAMES = (f"owner{number}" for number in count())


class Copy(NamedTuple):
    """A copy of the tiny project under a name of its own, since Python imports a name once."""

    folder: Path
    package: Path

    def load(self) -> tuple[Project, Deliveries]:
        project = importlib.import_module(f"{self.package.name}.project").PROJECT
        return project, importlib.import_module(f"{self.package.name}.deliveries").DELIVERIES

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / name if name.startswith("conf/") else self.package / name
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{name} holds no {old!r}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def problems(self) -> list[str]:
        sources = f"src/{self.package.name}/"
        return [line.replace(sources, "").replace(self.package.name, "") for line in problems(self.load, self.folder)]


def make(folder: Path) -> Copy:
    """A copy below `folder`, whose src/ has to be on the path."""
    package = folder / "src" / next(NAMES)
    shutil.copytree(HERE / "tiny", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(HERE / "conf", folder / "conf")
    return Copy(folder, package)
