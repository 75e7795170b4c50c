"""Events, as a source gives them and as Bronze keeps them; sources and sinks by name."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from mlplatform.contract import Source
from mlplatform.environment import Environment
from mlplatform.errors import UserError
from mlplatform.storage import ops
from mlplatform.storage.formats import REST, bronze_values

# By the names that `streaming.source` and `streaming.sinks` hold.
SOURCES = {"delta": "mlplatform.streaming.delta:DeltaSource", "kafka": "mlplatform.streaming.kafka:KafkaSource"}
SINKS = {"kafka": "mlplatform.streaming.kafka:KafkaSink", "online": "mlplatform.streaming.online:OnlineSink"}

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


class Sink(Protocol):
    """Sends on what a micro-batch has added to the tables, each row once."""

    def __init__(self, env: Environment) -> None: ...

    def publish(self, as_of: datetime) -> int:
        """Send what was not sent yet, as known at `as_of`; returns the number of rows. Raises UnavailableError."""

    def close(self) -> None: ...


def day_of(event: Event) -> tuple[str, datetime]:
    """The `source_file` of an event, and when that is complete: the events of a partition on one day."""
    day = event.arrived.replace(hour=0, minute=0, second=0, microsecond=0)
    return f"{event.partition}@{day:%Y-%m-%d}", day + timedelta(days=1)


def as_bronze(source: Source, events: Sequence[Event], as_of: datetime) -> tuple[pa.Table, pa.Table]:
    """Events as rows of bronze.<source>, and those that are none as rows of its quarantine, with the reason."""
    rows: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    now = datetime.now(UTC).replace(tzinfo=None)
    for event in events:
        arrived = min(event.arrived, as_of)
        place = {"source_file": day_of(event)[0], "source_row": event.offset}
        values = event.values or {}
        missing = [name for name in source.columns if name not in values]
        if event.values is None or missing:
            reason = event.reason or f"the event lacks {', '.join(missing)}"
            raw = (event.raw or json.dumps(values))[:_SHOWN]
            refused.append({**place, "reason": reason, "raw": raw, "available_at": arrived})
            continue
        rows.append({**bronze_values(values, source.columns), "landed_at": arrived, "ingested_at": now, **place})
    text = dict.fromkeys((*source.columns, REST), ops.TEXT)
    provenance = {"source_file": ops.TEXT, "source_row": ops.WHOLE, "landed_at": ops.TIME, "ingested_at": ops.TIME}
    return (
        pa.Table.from_pylist(rows, pa.schema({**text, **provenance})),
        pa.Table.from_pylist(refused, ops.SCHEMAS[ops.QUARANTINE]),
    )
