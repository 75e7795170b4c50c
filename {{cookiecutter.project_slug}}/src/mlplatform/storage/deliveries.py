"""What landing files hold: usable rows as text, and what is refused, line by line; also without what is forgotten."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

import pyarrow as pa

from mlplatform.contract import Source
from mlplatform.errors import UserError
from mlplatform.storage import ops
from mlplatform.storage.address import Place, Remote
from mlplatform.storage.formats import PROVENANCE, Bad, Content, UnusableError, open_content
from mlplatform.storage.landing import LandedFile, now, stamp

_SHOWN = 1000  # characters of a refused line
_PROVENANCE = dict(zip(PROVENANCE, (ops.TEXT, ops.WHOLE, ops.TIME, ops.TIME), strict=True))
Goes = Callable[[str, Mapping[str, str | None] | None], bool]
"""Whether a record goes, by its text and, where it is a row, its values by column."""


class GrowingError(UserError):
    """A file is still being written."""


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
        ingested, content = now(), self.content()
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
    if not whole and now() - delivery.modified < settle:
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
    delivery = inspect(file, source, settle)
    if delivery is None:
        raise GrowingError(f"{file.name} is still being written: try again when it is whole")
    content, gone = delivery.content().without(goes, usable=not delivery.error)
    if gone and write:
        digests = [*_same(file), delivery.digest, hashlib.sha256(content).hexdigest()]
        _put(_note(file), json.dumps(list(dict.fromkeys(digests))).encode())
        _put(file.place, content, keep_time=True)
    return gone


def _same(file: LandedFile) -> list[str]:
    """The digests that a file has had, with lines that have been forgotten since and without them."""
    note = _note(file)
    found = note if isinstance(note, Path) else note.again()
    if not found.is_file():
        return []
    digests: list[str] = json.loads(LandedFile(found, datetime.max).path.read_text(encoding="utf-8"))
    return digests


def _note(file: LandedFile) -> Place:
    return file.place.parent / f".{file.place.name}.forgotten"


def _put(place: Place, content: bytes, *, keep_time: bool = False) -> None:
    """Put a file in place, whole or not at all; with `keep_time`, as old as the one before: it landed then.

    An object's time is the store's.
    """
    if isinstance(place, Remote):
        with tempfile.NamedTemporaryFile(prefix="mlplatform-") as file:
            file.write(content)
            file.flush()
            place.copy_from(Path(file.name))
        return
    unfinished = place.with_name(f".{place.name}.unfinished")
    unfinished.write_bytes(content)
    if keep_time:
        stat = place.stat()
        os.utime(unfinished, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    unfinished.replace(place)


def _scan(file: LandedFile) -> tuple[int, datetime, str]:
    """The size, time and digest of a file: of what it held when it was read."""
    found, size, (_, modified) = hashlib.sha256(), 0, stamp(file.place)
    with file.path.open("rb") as content:
        while part := content.read(1 << 20):
            found.update(part)
            size += len(part)
    return size, modified, found.hexdigest()
