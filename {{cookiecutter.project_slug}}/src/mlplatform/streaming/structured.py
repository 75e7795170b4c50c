"""Where the engine is Spark, its Structured Streaming reads the events, and executors parse them.

How far it is stands in Bronze, with the rows, as for any stream: each query begins there, a killed one goes on there,
and so does one on another engine, since an event has the same number on both.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from mlplatform.config.streaming import StreamingSettings
from mlplatform.contract import Source
from mlplatform.engine.structured import KafkaError, LostError, Queries, queries
from mlplatform.environment import Environment
from mlplatform.errors import ConfigError, GoneError, UserError
from mlplatform.storage import ops
from mlplatform.storage.catalog import Catalog, Relation, Rows
from mlplatform.streaming import delta
from mlplatform.streaming.delta import ROWS
from mlplatform.streaming.events import Event, Handover, UnavailableError, as_rows, json_event, lost, refuse_new_topic

Offset = Callable[[str, str], int | None]  # of a source and a partition
Events = Callable[[pa.RecordBatch], Iterable[Event]]
Land = Callable[[Rows], None]
_TIMEOUT = "10000"  # milliseconds for one answer of a broker
# Of librdkafka's properties those that name a file, and what Java's client calls its text.
_FILES = (
    ("ssl.ca.location", "truststore", "certificates"),
    ("ssl.certificate.location", "keystore", "certificate.chain"),
    ("ssl.key.location", "keystore", "key"),
)
_PLACES = pa.schema({"file": ops.TEXT, "first": ops.WHOLE, "made": ops.TIME})


class _File(NamedTuple):
    """What a commit added, and when it was made; `kept`: its events are read."""

    version: int
    made: datetime
    kept: bool


def handover(env: Environment, offset: Offset) -> Handover | None:
    """What hands events over by Structured Streaming, where the engine has it."""
    kinds: dict[str, type[DeltaHandover] | type[KafkaHandover]] = {"delta": DeltaHandover, "kafka": KafkaHandover}
    kind = kinds.get(env.config.of(StreamingSettings).source)
    found = queries(env.engine, env.config.lakehouse.spark.master)
    return kind(env, found, offset) if kind and found else None


class DeltaHandover:
    """See `Handover`. Commits are taken whole: all that there are make one batch."""

    def __init__(self, env: Environment, found: Queries, offset: Offset) -> None:
        self._env, self._queries, self._offset = env, found, offset
        self._next: dict[str, int] = {}  # the version of a table that comes after those that have been handed over

    def hand_over(self, source: Source, as_of: datetime, land: Land) -> None:
        catalog, name = delta.tables_of(self._env, source.name, self._env.name)
        if not catalog.exists(name):
            return
        start, query = self._offset(source.name, name) or 0, self._env.engine.query
        newest, since = delta.refuse_new_table(catalog, name, start), max(start // ROWS, self._next.get(name, 0))
        begin, files, gone = _commits(catalog, name, since)
        untold = [pa.Table.from_batches([as_rows(source.columns, as_of, gone)])] if gone else []

        def numbered(arrived: Relation) -> None:
            sql = "SELECT file, count(*) AS events FROM given.arrived GROUP BY file"
            counts = {
                row["file"]: row["events"] for row in query(sql, given={"given.arrived": arrived}).arrow().to_pylist()
            }
            listed = files if counts.keys() <= files.keys() else _commits(catalog, name, begin)[1]
            sql = (
                "SELECT event.*, first + row_number() OVER (PARTITION BY file ORDER BY place) - 1 AS _offset, made AS "
                "_made FROM (SELECT *, monotonically_increasing_id() AS place FROM given.arrived) "
                "JOIN given.places USING (file)"
            )
            given: dict[str, Rows] = {"given.arrived": arrived, "given.places": _places(listed, counts)}
            rows: Rows = _parsed(query(sql, given=given), source, as_of, partial(_of_table, name))
            if untold:  # in one transaction: its offset is higher than those of events before it
                both = {"given.arrived": rows, "given.untold": untold.pop()}
                rows = query("SELECT * FROM given.arrived UNION ALL SELECT * FROM given.untold", given=both)
            land(rows)

        if begin <= newest:
            uri, most = catalog.snapshot(name).uri.replace("s3://", "s3a://"), str(2**31 - 1)
            options = {
                "path": uri,
                "startingVersion": str(begin),
                "skipChangeCommits": "true",
                "maxFilesPerTrigger": most,
            }
            columns = ("struct(*) AS event", "regexp_extract(input_file_name(), '[^/]*$', 0) AS file")
            try:
                self._queries.hand_over("delta", options, columns, numbered, damaged=bool(gone))
            except LostError as error:
                raise UnavailableError(f"{name}: files were deleted while they were read") from error
        for rows in untold:
            land(rows)
        self._next[name] = newest + 1


class KafkaHandover:
    """See `Handover`. Spark uses Kafka's client for Java: it is given what `streaming.kafka.properties` mean."""

    def __init__(self, env: Environment, found: Queries, offset: Offset) -> None:
        settings = env.config.of(StreamingSettings)
        kafka, self._queries, self._offset = settings.of_kafka(), found, offset
        self._prefix, self._at = kafka.prefix, kafka.properties.get("bootstrap.servers")
        self._next: dict[str, int] = {}  # the offset of a partition that comes after those that have been handed over
        given = for_java(kafka.with_secrets())
        if unknown := found.unknown_to_kafka(given):
            raise ConfigError(
                f"streaming.kafka.properties: {', '.join(unknown)}: unknown to the Java client, which Spark uses"
            )
        self._properties = {"default.api.timeout.ms": _TIMEOUT, "request.timeout.ms": _TIMEOUT, **given}
        self._reading = {f"kafka.{name}": value for name, value in self._properties.items()}
        self._reading |= {"kafka.isolation.level": "read_committed", "kafkaConsumer.pollTimeoutMs": _TIMEOUT}
        self._reading["maxOffsetsPerTrigger"] = str(settings.max_events)
        for source in env.project.sources:
            self._ends(self._prefix + source.name)

    def hand_over(self, source: Source, as_of: datetime, land: Land) -> None:
        topic, gone = self._prefix + source.name, list[Event]()
        begin, ends = dict[int, int](), dict[str, int]()
        for number, (low, high) in self._ends(topic).items():
            partition = f"{topic}/{number}"
            start = self._offset(source.name, partition)
            refuse_new_topic(partition, start or 0, high)
            gone += [lost(partition, start, low)] if start is not None and start < low else []
            begin[number], ends[partition] = max(start or 0, low, self._next.get(partition, 0)), high
        if gone:
            land(pa.Table.from_batches([as_rows(source.columns, as_of, gone)]))
        if all(begin[number] >= high for number, high in zip(begin, ends.values(), strict=True)):
            return
        columns = (
            "concat(topic, '/', partition) AS place",
            "offset",
            "unix_millis(timestamp) AS sent",
            "coalesce(value, X'') AS value",
        )
        try:
            options = {**self._reading, "subscribe": topic, "startingOffsets": json.dumps({topic: begin})}
            self._queries.hand_over(
                "kafka", options, columns, lambda arrived: land(_parsed(arrived, source, as_of, _of_topic))
            )
        except LostError as error:  # the next time it is told which
            raise UnavailableError(
                f"kafka at {self._at}: messages of {topic} were deleted while they were read"
            ) from error
        except OverflowError as error:
            raise UserError(
                f"{topic}: Spark cannot read the timestamp of a message (nanoseconds, where milliseconds belong?). "
                "With lakehouse.engine: duckdb the stream reads it, and goes on behind it on Spark"
            ) from error
        except KafkaError as error:
            raise UnavailableError(f"kafka at {self._at}: {error.args[1]}") from error
        self._next |= ends

    def _ends(self, topic: str) -> dict[int, tuple[int, int]]:
        """The first and the next offset of each partition; none where there is no such topic yet."""
        try:
            return self._queries.kafka_offsets(self._properties, topic)
        except KafkaError as error:
            if error.args[0] == "UnknownTopicOrPartitionException":
                return {}
            raise UnavailableError(f"kafka at {self._at}: {error.args[1]}") from error


def for_java(properties: Mapping[str, str]) -> dict[str, str]:
    """Properties of librdkafka by the names that Kafka's client for Java has for them; others stay as they are.

    Files are read here: executors do not have them.
    """
    left = dict(properties)
    found = {"security.protocol": left.pop("security.protocol").upper()} if "security.protocol" in left else {}
    if "sasl.mechanisms" in left:
        found["sasl.mechanism"] = left.pop("sasl.mechanisms")
    if "sasl.username" in left:
        kind = "plain.Plain" if {**left, **found}.get("sasl.mechanism") == "PLAIN" else "scram.Scram"
        user, word = (re.sub(r'(["\\])', r"\\\1", left.pop(f"sasl.{name}", "")) for name in ("username", "password"))
        module = f"org.apache.kafka.common.security.{kind}LoginModule"
        found["sasl.jaas.config"] = f'{module} required username="{user}" password="{word}";'
    for theirs, store, content in _FILES:
        if theirs in left:
            found |= {f"ssl.{store}.type": "PEM", f"ssl.{store}.{content}": Path(left.pop(theirs)).read_text()}
    return left | found


def _commits(catalog: Catalog, name: str, version: int) -> tuple[int, dict[str, _File], list[Event]]:
    """Of a table from `version` on: where its log begins, its files in the order of their events, and what is gone."""
    begin, files, gone = version, dict[str, _File](), list[Event]()
    try:
        for change in catalog.changes(name, version - 1):
            whole = True
            for file, there in () if change.rewrites else change.files:
                whole = whole and there  # what follows upon a gap in a commit is lost with it
                files.setdefault(file, _File(change.version, change.time, whole))
            gone += [] if whole else [delta.lost(catalog, name, change.version)]
    except GoneError:  # logs are cleaned from the beginning on
        first = delta.lost(catalog, name, version)
        begin, files, gone = _commits(catalog, name, first.offset // ROWS + 1)
        gone.insert(0, first)
    return begin, files, gone


def _places(files: Mapping[str, _File], counts: Mapping[str, int]) -> pa.Table:
    """The number of the first event of each file."""
    if strange := counts.keys() - files.keys():
        raise LookupError(f"no commit has added {', '.join(strange)}")
    places, before = list[dict[str, Any]](), Counter[int]()
    for file, (version, made, kept) in files.items():
        if kept:
            places.append({"file": file, "first": version * ROWS + before[version], "made": made})
        before[version] += counts.get(file, 0)
    return pa.Table.from_pylist(places, _PLACES)


def _parsed(events: Relation, source: Source, as_of: datetime, read: Events) -> Relation:
    return events.map(partial(_rows, source.columns, as_of, read), as_rows(source.columns, as_of, ()).schema)


def _rows(columns: tuple[str, ...], as_of: datetime, read: Events, batch: pa.RecordBatch) -> pa.RecordBatch:
    return as_rows(columns, as_of, read(batch))


def _of_table(name: str, batch: pa.RecordBatch) -> Iterable[Event]:
    rows = delta.texts(batch.select(batch.schema.names[:-2]))
    for (values, arrived), offset, made in zip(rows, *(batch[at].to_pylist() for at in (-2, -1)), strict=True):
        yield Event(name, offset, arrived or made, values)


def _of_topic(batch: pa.RecordBatch) -> Iterable[Event]:
    for partition, offset, sent, value in zip(*(column.to_pylist() for column in batch.columns), strict=True):
        yield json_event(partition, offset, sent, value)
