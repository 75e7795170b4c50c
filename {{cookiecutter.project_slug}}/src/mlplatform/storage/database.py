"""Rows of a source's table or query in a database, by SQLAlchemy: as text, each with the time from which it counts."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from mlplatform.contract import Database, Source
from mlplatform.errors import ContractError, StorageError, UserError
from mlplatform.storage.formats import PROVENANCE, written

REFUSED = "_refused"  # the text of a row whose time is none
_PART = 10_000  # rows
_SHOWN = 1000  # characters of a refused row


def read(source: Source, since: datetime | None, as_of: datetime) -> Iterator[pa.RecordBatch]:
    """The rows from `since` up to `as_of` (naive UTC) by their watermark; without one, all that there are.

    Every value is text; beside them `source_row`, `landed_at` and, where the watermark is no time, `_refused`. There is
    always a first batch. Raises UserError where the database cannot be asked, ContractError where a column is missing.
    """
    kind = source.format
    assert isinstance(kind, Database)
    schema, _, name = kind.table.rpartition(".")
    query = re.sub(r"(?<!\\):", r"\\:", kind.query.rstrip().rstrip(";"))  # a colon would name a parameter
    rows: Any = sa.table(name, schema=schema or None) if name else sa.text(f"({query}\n) source")
    with (
        told(f"source {source.name}", kind.address),
        sa.create_engine(address(f"source {source.name}", kind.address), poolclass=sa.NullPool).connect() as connection,
    ):
        asked = sa.select(sa.text("*")).select_from(rows)
        if kind.watermark:
            mark: Any = sa.column(kind.watermark)
            example = connection.scalar(sa.select(mark).select_from(rows).where(mark.is_not(None)).limit(1))
            if isinstance(example, int | float | Decimal):
                raise ContractError(
                    f"source {source.name}: its watermark {kind.watermark} holds numbers, such as {example}, and they "
                    "do not say when a row came to be known: name a column of times, or none, and all rows are read "
                    "each time"
                )
            if isinstance(example, datetime):  # a database that keeps times as text cannot compare them
                zone = UTC if example.tzinfo else None
                bounds = [mark <= as_of.replace(tzinfo=zone)]
                bounds += [mark >= since.replace(tzinfo=zone)] if since else []
                asked = asked.where(sa.or_(mark.is_(None), sa.and_(*bounds)))
        result = connection.execution_options(yield_per=_PART).execute(asked)
        names, number = list(result.keys()), 0
        _refuse_columns(source, names)
        fields = pa.schema({name: pa.string() for name in names})
        for part in _parts(result):
            texts, numbers, times, refused = [], [], [], []
            for row in part:
                number += 1
                time = _moment(row._mapping[kind.watermark]) if kind.watermark else as_of
                if time is None or (time <= as_of and (since is None or time >= since)):
                    texts.append([_text(value) for value in row])
                    numbers.append(number)
                    times.append(time)
                    refused.append(str(dict(zip(names, texts[-1], strict=True)))[:_SHOWN] if time is None else None)
            columns = [*zip(*texts, strict=True)] or [()] * len(names)
            batch = pa.record_batch([pa.array(column, pa.string()) for column in columns], schema=fields)
            batch = batch.append_column("source_row", pa.array(numbers, pa.int64()))
            batch = batch.append_column("landed_at", pa.array(times, pa.timestamp("us")))
            yield batch.append_column(REFUSED, pa.array(refused, pa.string()))


def _parts(result: Any) -> Iterator[Any]:
    """The rows of a result, part by part; at least one part."""
    yield ()
    yield from result.partitions()


def _refuse_columns(source: Source, names: list[str]) -> None:
    lower = [name.lower() for name in (*names, *PROVENANCE, REFUSED)]
    if "" in names:
        raise ContractError(f"source {source.name}: it gives a column without a name: name it in a query")
    if again := sorted({name for name in lower if lower.count(name) > 1}):
        raise ContractError(f"source {source.name}: it gives a column twice, or as ingest does: {', '.join(again)}")
    if missing := [name for name in source.columns if name not in names]:
        raise ContractError(f"source {source.name}: it lacks {', '.join(missing)}: its columns are {', '.join(names)}")


def address(where: str, variable: str) -> Any:
    """The SQLAlchemy address that an environment variable holds. Raises UserError, which begins with `where`."""
    text = os.environ.get(variable)
    if not text:
        raise UserError(f"{where}: the environment variable {variable} is not set: a database's address")
    try:
        return sa.make_url(text)
    except sa.exc.ArgumentError as error:  # whose message may hold a password
        raise UserError(f"{where}: {variable} holds no address that SQLAlchemy can read") from error


@contextmanager
def told(where: str, variable: str) -> Iterator[None]:
    """What a database or its driver answers is told in one line, without its password."""
    try:
        yield
    except (sa.exc.NoSuchModuleError, ModuleNotFoundError) as error:
        raise UserError(f"{where}: {variable} needs a driver that is not installed: {error}") from error
    except sa.exc.SQLAlchemyError as error:
        said = " ".join(str(getattr(error, "orig", None) or error).split())[:400]
        secret = address(where, variable).password
        said = said.replace(secret, "***") if secret else said
        raise StorageError(
            f"{where}: the database of {variable} answers: {said}. Nothing is lost: run again later"
        ) from error


def _moment(value: object) -> datetime | None:
    """A watermark as naive UTC; None where it is no time. Without a zone it is taken for UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        return None
    try:
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    except OverflowError:  # the last hours of the year 9999, or the first of the year 1
        return None


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | list | dict | bytes):
        return written(value)
    return bytes(value).hex() if isinstance(value, memoryview | bytearray) else str(value)
