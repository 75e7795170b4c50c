"""Kafka: a topic per source to read events from, and one for predictions, written in transactions.

An event is a JSON object with the columns of its source. What has been read of a topic is kept in Bronze, with the
rows; what has been published is kept in Kafka, in the transaction of the messages.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import import_module
from time import monotonic, sleep
from typing import Any

from mlplatform.config.streaming import KafkaSettings, StreamingSettings
from mlplatform.environment import Environment
from mlplatform.errors import ConfigError, GoneError, UserError
from mlplatform.storage.catalog import Window
from mlplatform.streaming.events import Event, UnavailableError, json_event, lost, refuse_new_topic

try:
    kafka: Any = import_module("confluent_kafka")
except ImportError as error:
    raise ConfigError("streaming: kafka needs the package confluent-kafka (`make setup EXTRAS=kafka`)") from error

_TIMEOUT = 10  # seconds for one answer of a broker


class KafkaSource:
    """See `EventSource`. A partition is `<topic>/<number>`; messages that are no JSON object are refused."""

    def __init__(self, env: Environment) -> None:
        settings = env.config.of(StreamingSettings).of_kafka()
        self._prefix, self._group = settings.prefix, f"{env.name}.stream"
        reading = {"enable.auto.commit": False, "isolation.level": "read_committed", "enable.partition.eof": True}
        self._properties = {**_properties(settings), **reading, "group.id": self._group}
        with _told(at=f"kafka at {settings.properties.get('bootstrap.servers')}"):
            consumer = kafka.Consumer(self._properties)
            consumer.list_topics(timeout=_TIMEOUT)
            consumer.close()
        self._consumers: dict[str, Any] = {}

    def take(
        self, source: str, offset: Callable[[str], int | None], limit: int, waits: Callable[[datetime], bool]
    ) -> list[Event]:
        topic = self._prefix + source
        with _told():
            consumer = self._consumers.setdefault(topic, kafka.Consumer(self._properties))
            found = consumer.list_topics(topic, timeout=_TIMEOUT).topics[topic]
            if found.error:
                if found.error.code() == kafka.KafkaError.UNKNOWN_TOPIC_OR_PART:
                    return []
                raise kafka.KafkaException(found.error)
            events, starts = [], {}
            for number in sorted(found.partitions):
                partition, at = f"{topic}/{number}", kafka.TopicPartition(topic, number)
                low, high = consumer.get_watermark_offsets(at, timeout=_TIMEOUT)
                start = offset(partition)
                refuse_new_topic(partition, start or 0, high)
                if start is not None and start < low:
                    events.append(lost(partition, start, low))
                if max(start or 0, low) < high:
                    starts[number] = max(start or 0, low)
            events += self._read(consumer, topic, starts, limit - len(events), waits)
            return events

    def _read(
        self, consumer: Any, topic: str, starts: Mapping[int, int], limit: int, waits: Callable[[datetime], bool]
    ) -> list[Event]:
        """Up to `limit` messages, each partition until its end or one that waits."""
        events: list[Event] = []
        consumer.assign([kafka.TopicPartition(topic, number, start) for number, start in starts.items()])
        ended: set[int] = set()
        answered = monotonic()
        while len(events) < limit and len(ended) < len(starts):
            messages = consumer.consume(limit - len(events), timeout=0.1)  # it waits for as many, if it may
            answered = monotonic() if messages else answered
            if monotonic() - answered > _TIMEOUT:
                raise UnavailableError(f"kafka: {topic} gives no message, and has not ended")
            for message in messages:
                if message.error() and message.error().code() == kafka.KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
                elif message.error():
                    raise kafka.KafkaException(message.error())
                elif message.partition() not in ended:
                    event = _event(message)
                    if waits(event.arrived):
                        ended.add(message.partition())
                    else:
                        events.append(event)
        consumer.unassign()
        return events

    def close(self) -> None:
        for consumer in self._consumers.values():
            consumer.close()


class KafkaSink:
    """Publishes each prediction of the stream once, as a JSON object with the entity's keys as its key.

    The version of the table that comes next is committed with the messages, as the offset of a group on their topic,
    and beside it the time at which the last of them was predicted, for when the log of that version is cleaned up.
    """

    def __init__(self, env: Environment) -> None:
        settings, model = env.config.of(StreamingSettings).of_kafka(), env.config.registry.model
        self._env, self._topic, self._table = env, f"{settings.prefix}predictions", f"predictions.{model}"
        self._at = kafka.TopicPartition(self._topic, 0)
        properties, self._name = _properties(settings), f"{env.name}.{model}.predictions"
        self._group = kafka.Consumer({**properties, "group.id": self._name, "enable.auto.commit": False})
        self._sending = {**properties, "transactional.id": self._name, "enable.idempotence": True}
        self._producer: Any = None
        with _told():
            if self._group.list_topics(self._topic, timeout=_TIMEOUT).topics[self._topic].error:
                raise ConfigError(f"streaming.sinks: there is no topic {self._topic}: create it")
            committed = self._committed()
            if committed.offset < 0:  # what was predicted before the first start is not sent
                there = env.catalog.exists(self._table)
                version, now = env.catalog.snapshot(self._table).version + 1 if there else 0, datetime.now(UTC)
                position = self._position(version, now.replace(tzinfo=None))
                self._group.commit(offsets=[position], asynchronous=False)

    def _committed(self) -> Any:
        """How far it is. A broker that has just started knows that only after a moment."""
        unknown = (kafka.KafkaError.NOT_COORDINATOR, kafka.KafkaError.COORDINATOR_LOAD_IN_PROGRESS)
        ends = monotonic() + _TIMEOUT
        while True:
            try:
                return self._group.committed([self._at], timeout=_TIMEOUT)[0]
            except kafka.KafkaException as error:
                if error.args[0].code() not in unknown or monotonic() > ends:
                    raise
                sleep(0.5)

    def publish(self, as_of: datetime) -> int:
        sent = 0
        with _told(self._forget):
            if self._producer is None:
                producer = kafka.Producer(self._sending)
                producer.init_transactions(_TIMEOUT)
                self._producer = producer
            (committed,) = self._group.committed([self._at], timeout=_TIMEOUT)
            if not self._env.catalog.exists(self._table):
                return 0
            until = datetime.fromisoformat(committed.metadata) if committed.metadata else None
            for reached, rows in self._unsent(committed.offset, until):
                self._producer.begin_transaction()
                for row in rows:
                    self._send(row)
                group = self._group.consumer_group_metadata()
                self._producer.send_offsets_to_transaction([reached], group, _TIMEOUT)
                self._producer.commit_transaction(_TIMEOUT)
                sent += len(rows)
        return sent

    def _unsent(self, version: int, until: datetime | None) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
        """The stream's predictions of each commit from this version on, and the position after it. Where the log of one
        is cleaned up, at once those made later than `until`; raises UserError where that is not known."""
        catalog = self._env.catalog
        try:
            for change in catalog.changes(self._table, version - 1):
                added = () if change.rewrites else change.batches
                rows = _streamed(row for batch in added for row in batch.to_pylist())
                until, version = max([row["scored_at"] for row in rows], default=until), change.version + 1
                yield self._position(version, until), rows
        except GoneError as error:
            version = catalog.snapshot(self._table).version + 1
            if until is None:  # up to 0.4.0 it was not kept
                raise UserError(
                    f"{error}, before its predictions were published. To go on with those that come next, set the "
                    f"offset of the group {self._name} on {self._topic} to {version} (kafka-consumer-groups.sh)"
                ) from error
            rows = _streamed(catalog.read(self._table, None, Window("scored_at", until)).to_pylist())
            yield self._position(version, max([row["scored_at"] for row in rows], default=until)), rows

    def _position(self, version: int, until: datetime | None) -> Any:
        return kafka.TopicPartition(self._topic, 0, version, until.isoformat() if until else None)

    def _send(self, row: Mapping[str, Any]) -> None:
        entity = self._env.project.entity
        value = {name: _plain(item) for name, item in row.items() if name not in entity.sensitive}
        key = json.dumps({name: value[name] for name in entity.keys})
        while True:
            try:
                self._producer.produce(self._topic, json.dumps(value), key)
                return
            except BufferError:  # its queue is full
                self._producer.poll(1)

    def _forget(self) -> None:
        """A transaction that failed ends with its producer: the next one of this name takes its place."""
        self._producer = None

    def close(self) -> None:
        self._group.close()


def _streamed(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row.get("inference") == "streaming"]


def _properties(settings: KafkaSettings) -> dict[str, Any]:
    return {**settings.with_secrets(), "log_level": 2}


def _event(message: Any) -> Event:
    partition, (_, sent) = f"{message.topic()}/{message.partition()}", message.timestamp()
    return json_event(partition, message.offset(), sent, message.value() or b"")


def _plain(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def _told(failed: Callable[[], None] = lambda: None, at: str = "kafka") -> Iterator[None]:
    try:
        yield
    except kafka.KafkaException as error:
        failed()
        reason = error.args[0]
        if reason.code() in (kafka.KafkaError._FENCED, kafka.KafkaError.INVALID_PRODUCER_EPOCH):
            raise UserError("kafka: another stream of this environment publishes now: this one ends") from error
        raise UnavailableError(f"{at}: {reason.str()}") from error
