"""Events, as a source gives them and as Bronze keeps them; sources and sinks by name."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from mlplatform.contract import Source
from mlplatform.environment import Environment
from mlplatform.errors import UserError
from mlplatform.storage import ops
from mlplatform.storage.catalog import Rows
from mlplatform.storage.formats import REST, bronze_values, json_values

# By the names that `streaming.source` and `streaming.sinks` hold.
SOURCES = {"delta": "mlplatform.streaming.delta:DeltaSource", "kafka": "mlplatform.streaming.kafka:KafkaSource"}
SINKS = {"kafka": "mlplatform.streaming.kafka:KafkaSink", "online": "mlplatform.streaming.online:OnlineSink"}

ASIDE = ("_partition", "_reason", "_raw")  # columns of `as_rows` that Bronze does not have
_SHOWN = 1000  # characters of a refused event


class UnavailableError(UserError):
    """A source or sink does not answer just now: the stream tries again."""


class Event(NamedTuple):
    """One event: where it stands, when it arrived (naive UTC) and its values as text, or why it has none."""

    partition: str
    offset: int
    arrived: datetime
    values: Mapping[str, str | None] | None
    reason: str = ""
    raw: str = ""


class EventSource(Protocol):
    """Gives the events of a source of the project. Whatever it raises UnavailableError for is tried again."""

    def __init__(self, env: Environment) -> None: ...

    def take(
        self, source: str, offset: Callable[[str], int | None], limit: int, waits: Callable[[datetime], bool]
    ) -> list[Event]:
        """At most `limit` events that are there, each partition from its `offset` on; None is its beginning.

        A partition ends before an event that `waits`, by the time at which it arrived.
        """

    def close(self) -> None: ...


class Handover(Protocol):
    """Hands over the events of a source of the project without this process, which has no memory of any: as rows."""

    def hand_over(self, source: Source, as_of: datetime, land: Callable[[Rows], None]) -> None:
        """Give `land` all that has arrived, part by part, as rows of `as_rows`. Raises UnavailableError.

        Where `land` raises something, or dies, the same events come again.
        """


class Sink(Protocol):
    """Sends on what a micro-batch has added to the tables, each row once."""

    def __init__(self, env: Environment) -> None: ...

    def publish(self, as_of: datetime) -> int:
        """Send what was not sent yet, as known at `as_of`; returns the number of rows. Raises UnavailableError."""

    def close(self) -> None: ...


def json_event(partition: str, offset: int, sent: int, raw: bytes) -> Event:
    """A message that holds an event as a JSON object; `sent`: its timestamp, milliseconds since 1970 as it claims."""
    try:
        arrived = datetime.fromtimestamp(sent / 1000, UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):  # microseconds, say: a year that no calendar has
        arrived = datetime.now(UTC).replace(tzinfo=None)
    try:
        return Event(partition, offset, arrived, json_values(raw))
    except ValueError as error:
        return Event(partition, offset, arrived, None, str(error), raw.decode("utf-8", "replace"))


def lost(partition: str, start: int, low: int) -> Event:
    """What stands for messages from `start` on that a broker has deleted, since its first one is `low`."""
    reason = f"deleted by the broker before they were read: offsets {start} to {low - 1}"
    return Event(partition, low - 1, datetime.now(UTC).replace(tzinfo=None), None, reason)


def refuse_new_topic(partition: str, start: int, high: int) -> None:
    """Raise UserError where a partition ends before what has been read of it."""
    if start > high:
        raise UserError(
            f"{partition} ends at {high}, and {start} messages of it have been read: it was made anew. "
            "Give the new one another name (streaming.kafka.prefix), so that it is read from its beginning"
        )


def file_of(event: Event) -> str:
    """The `source_file` of an event: those of a partition on one day."""
    return f"{event.partition}@{event.arrived.date().isoformat()}"


def end_of(file: str) -> datetime:
    """When such a file is complete."""
    day = datetime.fromisoformat(file.rpartition("@")[2])
    return day + min(timedelta(days=1), datetime.max - day)


def as_rows(columns: Sequence[str], as_of: datetime, events: Iterable[Event]) -> pa.RecordBatch:
    """Events as rows of Bronze, each with its `_partition`; what is none has a `_reason`, and itself as `_raw`."""
    rows: list[dict[str, Any]] = []
    now = datetime.now(UTC).replace(tzinfo=None)
    for event in events:
        row = {"landed_at": min(event.arrived, as_of), "ingested_at": now, "_partition": event.partition}
        row |= {"source_file": file_of(event), "source_row": event.offset}
        values = event.values or {}
        missing = [name for name in columns if name not in values]
        if event.values is None or missing:
            row["_reason"] = event.reason or f"the event lacks {', '.join(missing)}"
            row["_raw"] = (event.raw or json.dumps(values))[:_SHOWN]
        else:
            row |= bronze_values(values, columns)
        rows.append(row)
    provenance = {"source_file": ops.TEXT, "source_row": ops.WHOLE, "landed_at": ops.TIME, "ingested_at": ops.TIME}
    text = dict.fromkeys((*columns, REST), ops.TEXT)
    told = dict.fromkeys(ASIDE, ops.TEXT)
    return pa.RecordBatch.from_pylist(rows, pa.schema({**text, **provenance, **told}))
