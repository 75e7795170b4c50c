"""The landing zone: files as sources deliver them, `<landing>/<source>/<time of landing>.csv`, or of another format.

A file on a disk may be read while it is still being written. An object appears whole.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from mlplatform.contract import Database, Source
from mlplatform.errors import UserError
from mlplatform.storage import ops
from mlplatform.storage.address import Place, Remote, put, read, temporary, told
from mlplatform.storage.formats import PROVENANCE, Bad, Content, Goes, UnusableError, open_content

NAME_FORMAT = "%Y%m%dT%H%M%SZ"
_SHOWN = 1000  # characters of a refused line
_NOW = timedelta(minutes=10)  # by which clocks may differ
_PROVENANCE = dict(zip(PROVENANCE, (ops.TEXT, ops.WHOLE, ops.TIME, ops.TIME), strict=True))


class GrowingError(UserError):
    """A file is still being written."""


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
        folder = temporary()
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
            wrong = "no folder" if place.name in files else f"no source has this name (sources: {', '.join(files)})"
            strangers[_readable(place.name)] = wrong
            continue
        for path in _sorted(place):
            if path.name.startswith("."):
                continue
            if reason := _no_delivery(path, suffixes[place.name]):
                strangers[f"{place.name}/{_readable(path.name)}"] = reason
            elif (landed_at := _landed_at(path, suffixes[place.name])) <= until:
                files[place.name].append(LandedFile(path, landed_at))
            elif landed_at - _NOW > ops.now() and until + _NOW > ops.now():
                strangers[f"{place.name}/{path.name}"] = f"it counts from {landed_at} UTC on, which is still to come"
        files[place.name].sort(key=lambda file: (file.landed_at, file.name))
    return Landed(files, strangers)


@contextmanager
def delivering(landing: Place) -> Iterator[Path]:
    """A folder to deliver into: the landing zone, or a copy of it, whose new files are put there in the end."""
    if isinstance(landing, Path):
        yield landing
        return
    with temporary() as name:
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


@dataclass
class Delivery:
    """What a file holds. `name` is the source_file of its rows; lines of text are numbered from 1, a header's too, and
    rows of Parquet from 1.

    `schema` is that of its rows. `bad` are the lines that do not fit, with reason and text; `error` is why no line can
    be used at all; `refused` counts the lines that are refused, either way.
    """

    file: LandedFile
    source: Source
    name: str
    size: int
    modified: datetime  # naive UTC
    digest: str
    rows: int = 0
    schema: pa.Schema | None = None
    bad: Bad = field(default_factory=list)
    error: str = ""
    refused: int = 0

    def content(self) -> Content:
        """The content of the file. What has to be unpacked for it goes when this does."""
        return open_content(self.source, self.file.path, self.size)

    def refused_lines(self) -> Iterator[tuple[int, str, str]]:
        """Every line that is refused: its number, the reason and its text."""
        if not self.error:
            yield from self.bad
            return
        content, number = self.content(), 0
        header = content.header if content.lines > content.header else 0
        for number, text in islice(content.texts(), header, None):
            yield number, self.error, text[:_SHOWN]
        if not number:
            yield 0, self.error, ""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows as received, every value text, with their provenance."""
        ingested, content = ops.now(), self.content()
        for numbers, batch in content.rows([]):
            provenance = {
                "source_file": pa.repeat(self.name, batch.num_rows),
                "source_row": pa.array(numbers, pa.int64()),
                "landed_at": pa.repeat(pa.scalar(self.file.landed_at, ops.TIME), batch.num_rows),
                "ingested_at": pa.repeat(pa.scalar(ingested, ops.TIME), batch.num_rows),
            }
            names = [*batch.schema.names, *provenance]
            yield pa.record_batch([*batch.columns, *provenance.values()], names=names)


def inspect(file: LandedFile, source: Source, settle: timedelta, name: str = "") -> Delivery | None:
    """Read a file through, without keeping it; None where it is still being written.

    A file without its end (the last line break, or what ends a compressed or a Parquet file) may be unfinished: it is
    taken once it has not changed for `settle`. What comes after the last line break of CSV is refused. One that lacks
    any of the source's columns, or cannot be read, is refused whole.
    """
    delivery = Delivery(file, source, name or file.name, *_scan(file))
    content = delivery.content()
    whole = isinstance(file.place, Remote) or content.whole
    if not whole and ops.now() - delivery.modified < settle:
        return None
    try:
        delivery.rows = content.check(source.columns, delivery.bad)
        delivery.schema = pa.schema(dict.fromkeys(content.names, pa.string()) | _PROVENANCE)
        delivery.refused = len(delivery.bad)
    except UnusableError as error:
        delivery.error, delivery.refused = str(error), max(1, content.lines - content.header)
    delivery.bad = [(number, reason, text[:_SHOWN]) for number, reason, text in delivery.bad]
    place = file.place if isinstance(file.place, Path) else file.place.again()
    return delivery if (delivery.size, delivery.modified) == stamp(place) else None


def changed(file: LandedFile, size: int, modified: datetime, digest: str) -> bool:
    """Whether a file holds something else than when it was of this size, time and digest, or of one without lines that
    have been forgotten since."""
    if (size, modified) == stamp(file.place):
        return False
    _, _, found = _scan(file)
    return found != digest and not {found, digest} <= set(_same(file))


def forget(file: LandedFile, source: Source, goes: Goes, settle: timedelta, *, write: bool) -> int:
    """How many records of a file are to go; with `write` it is put in place without them, whole or not at all.

    Its old and new digest are noted beside it, so that no environment takes it for changed. Raises GrowingError.
    """
    with told(file.name):
        delivery = inspect(file, source, settle)
        if delivery is None:
            raise GrowingError(f"{file.name} is still being written: try again when it is whole")
        content, gone = delivery.content().without(goes, usable=not delivery.error)
    if gone and write:
        digests = [*_same(file), delivery.digest, hashlib.sha256(content).hexdigest()]
        put(_note(file), json.dumps(list(dict.fromkeys(digests))).encode())
        put(file.place, content, keep_time=True)
    return gone


def _same(file: LandedFile) -> list[str]:
    """The digests that a file has had, with lines that have been forgotten since and without them."""
    noted = read(_note(file))
    digests: list[str] = json.loads(noted) if noted else []
    return digests


def _note(file: LandedFile) -> Place:
    return file.place.parent / f".{file.place.name}.forgotten"


def _scan(file: LandedFile) -> tuple[int, datetime, str]:
    """The size, time and digest of a file: of what it held when it was read."""
    _, modified = stamp(file.place)
    with file.path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
        return content.tell(), modified, digest


def _sorted(folder: Place) -> list[Any]:
    with told(str(folder)):
        return sorted(folder.iterdir(), key=lambda place: str(place.name))


def _no_delivery(path: Place, suffix: str) -> str:
    """Why a name in the folder of a source is no delivery, or nothing."""
    if not path.is_file():
        lost = isinstance(path, Path) and path.is_symlink() and not path.exists()
        return "a link to nothing" if lost else "a folder" if path.is_dir() else "no regular file"
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
