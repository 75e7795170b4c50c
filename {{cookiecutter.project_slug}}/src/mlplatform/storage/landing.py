"""The landing zone: files as sources deliver them, `<landing>/<source>/<time of landing>.csv`, or of another format.

A file on a disk may be read while it is still being written. An object appears whole.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from mlplatform.contract import Database, Source
from mlplatform.storage.address import Place, Remote

NAME_FORMAT = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class LandedFile:
    """A file in the landing zone and when it landed (naive UTC): its name says so, or else where it lies."""

    place: Place
    landed_at: datetime

    @property
    def name(self) -> str:
        return f"{self.place.parent.name}/{self.place.name}"

    @property
    def path(self) -> Path:
        """The file on this machine: of an object a copy, which is made once and goes when this is gone."""
        return self.place if isinstance(self.place, Path) else Path(self._copy.name, "content")

    @cached_property
    def _copy(self) -> "tempfile.TemporaryDirectory[str]":
        assert isinstance(self.place, Remote)
        folder = tempfile.TemporaryDirectory(prefix="mlplatform-")
        self.place.copy_to(Path(folder.name, "content"))
        return folder


@dataclass(frozen=True)
class Landed:
    """What lies in a landing zone: files by source, and by name what is no delivery, with the reason."""

    files: dict[str, list[LandedFile]]
    strangers: dict[str, str]


def look(landing: Place, sources: Iterable[Source], until: datetime = datetime.max) -> Landed:
    """What had landed by `until`, oldest first. Names that begin with a dot are passed over: a file may grow there."""
    suffixes = {s.name: s.format.suffix for s in sources if not isinstance(s.format, Database)}
    files: dict[str, list[LandedFile]] = {name: [] for name in suffixes}
    strangers = {}
    for place in _sorted(landing) if landing.is_dir() else ():
        if place.name.startswith("."):
            continue
        if not (place.is_dir() and place.name in files):
            strangers[_readable(place.name)] = f"no source has this name (sources: {', '.join(files)})"
            continue
        for path in _sorted(place):
            if path.name.startswith("."):
                continue
            if reason := _no_delivery(path, suffixes[place.name]):
                strangers[f"{place.name}/{_readable(path.name)}"] = reason
            elif (landed_at := _landed_at(path, suffixes[place.name])) <= until:
                files[place.name].append(LandedFile(path, landed_at))
        files[place.name].sort(key=lambda file: (file.landed_at, file.name))
    return Landed(files, strangers)


@contextmanager
def delivering(landing: Place) -> Iterator[Path]:
    """A folder to deliver into: the landing zone, or a copy of it, whose new files are put there in the end."""
    if isinstance(landing, Path):
        yield landing
        return
    with tempfile.TemporaryDirectory(prefix="mlplatform-") as name:
        folder = Path(name)
        for file in landing.files():
            target = folder / str(file)[len(str(landing)) + 1 :]
            target.parent.mkdir(parents=True, exist_ok=True)
            file.copy_to(target)
        before = {path: stamp(path) for path in folder.rglob("*")}
        yield folder
        for path in sorted(folder.rglob("*")):
            if path.is_file() and before.get(path) != stamp(path):
                (landing / path.relative_to(folder).as_posix()).copy_from(path)


def _sorted(folder: Place) -> list[Any]:
    return sorted(folder.iterdir(), key=lambda place: str(place.name))


def _no_delivery(path: Place, suffix: str) -> str:
    """Why a name in the folder of a source is no delivery, or nothing."""
    if isinstance(path, Path) and path.is_symlink() and not path.exists():
        return "a link to nothing"
    if not path.is_file():
        return "a folder" if path.is_dir() else "no regular file"
    taken = path.name.endswith(suffix) and _readable(path.name) == path.name
    return "" if taken else f"only <name>{suffix} is taken"


def _readable(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "replace")


def _landed_at(path: Place, suffix: str) -> datetime:
    try:
        return datetime.strptime(path.name.removesuffix(suffix), NAME_FORMAT)
    except ValueError:
        return stamp(path)[1]


def stamp(path: Place) -> tuple[int, datetime]:
    """The size of a file, and when it was last changed (naive UTC); of an object, when it was listed."""
    if isinstance(path, Remote):
        assert path.size is not None and path.modified is not None
        return path.size, path.modified
    stat = path.stat()
    return stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC).replace(tzinfo=None)


def now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
