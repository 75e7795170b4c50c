"""Events from Kafka, predictions to Kafka, each once, on a real broker."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from random import Random
from threading import Event, Timer
from time import sleep
from typing import Any

import pytest

kafka: Any = pytest.importorskip("confluent_kafka")

from broker import Broker, missing  # noqa: E402 (without the package there is nothing to test)
from mlplatform.config.streaming import StreamingSettings  # noqa: E402
from mlplatform.environment import Environment  # noqa: E402
from mlplatform.errors import UserError  # noqa: E402
from mlplatform.streaming.events import end_of, file_of  # noqa: E402
from mlplatform.streaming.kafka import KafkaSource  # noqa: E402
from mlplatform.streaming.stream import Stream, replayed, run  # noqa: E402
from steps import overlay, read  # noqa: E402
from streams import HOUR, TABLES, assert_equal, command, facts, send, state, stream, tidy  # noqa: E402
from tiny.project import PROJECT  # noqa: E402

LoadEnv = Callable[..., Environment]
Duplicate = Callable[[Path, Path], Path]
pytestmark = [pytest.mark.kafka, pytest.mark.skipif(bool(missing()), reason=missing() or "a broker can be started")]
PATH = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    found = Broker(tmp_path_factory.mktemp("kafka"))
    yield found
    found.stop()


def on_kafka(project: Path, load_env: LoadEnv, broker: Broker, prefix: str, **settings: Any) -> Environment:
    kafka_settings = {"properties": {"bootstrap.servers": broker.address}, "prefix": prefix}
    streaming = {"source": "kafka", "sinks": ["kafka"], "kafka": kafka_settings, **settings}
    overlay(project, "stream", {"streaming": streaming})
    admin = import_module("confluent_kafka.admin")
    topic = admin.NewTopic(f"{prefix}predictions", num_partitions=1, replication_factor=1)
    client = admin.AdminClient({"bootstrap.servers": broker.address})  # it has to live until it is answered
    assert client.create_topics([topic])[topic.topic].exception(30) is None
    return load_env("prod", project, "stream")


def produce(broker: Broker, topic: str, values: bytes | dict[str, Any], at: datetime, key: str = "") -> None:
    producer = kafka.Producer({"bootstrap.servers": broker.address})
    value = values if isinstance(values, bytes) else json.dumps(values).encode()
    time = int((at - datetime(1970, 1, 1)).total_seconds() * 1000)
    producer.produce(topic, value, key or None, timestamp=time)
    assert producer.flush(30) == 0


def published(broker: Broker, topic: str) -> list[dict[str, Any]]:
    """What somebody reads who sees committed messages only."""
    settings = {"bootstrap.servers": broker.address, "group.id": "reader", "isolation.level": "read_committed"}
    consumer = kafka.Consumer({**settings, "enable.partition.eof": True})
    consumer.assign([kafka.TopicPartition(topic, 0, 0)])
    found = []
    while (message := consumer.poll(30)) is not None and not message.error():
        found.append(json.loads(message.value()))
    consumer.close()
    return found


def prepared(env: Environment, broker: Broker, prefix: str, now: datetime, hours: int) -> None:
    for number, (source, time, values) in enumerate(facts(now, now + hours * HOUR)):
        produce(broker, prefix + source, values, time, values["kind"])
        if number % 5 == 4:
            produce(broker, prefix + source, b"{poison", time)


def test_events_of_a_topic_are_predicted_as_those_of_a_table_and_published_once(
    project: Path, tmp_path: Path, duplicate: Duplicate, load_env: LoadEnv, now: datetime, broker: Broker
) -> None:
    until, table = now + 24 * HOUR, load_env("prod", duplicate(project, tmp_path / "table"))
    for source, time, values in facts(now, until):
        send(table, source, [values], time)
    stream(table, now, until, 6 * HOUR)
    env = on_kafka(project, load_env, broker, "once.", max_events=3)
    prepared(env, broker, "once.", now, 24)
    stream(env, now, until, 6 * HOUR)
    for name in TABLES:
        assert_equal(tidy(read(env, name)), tidy(read(table, name)))
    predicted = read(env, "predictions.tiny")
    assert_equal(tidy(predicted, "late"), tidy(read(table, "predictions.tiny"), "late"))
    refused = read(env, "quarantine.items").sort("source_row")
    assert refused["reason"].str.starts_with("no JSON: ").all()
    assert refused["raw"].unique().to_list() == ["{poison"]
    assert refused["source_file"].str.starts_with("once.items/0@2025-03-1").all()
    for _ in range(2):
        stream(env, now, until, HOUR)  # nothing is left to do
        sent = published(broker, "once.predictions")
        assert sorted((row["item_id"], row["score"]) for row in sent) == sorted(
            predicted.select("item_id", "score").rows()
        )


def test_predictions_are_published_once_where_their_commits_are_cleaned_up_before(
    project: Path, load_env: LoadEnv, now: datetime, broker: Broker
) -> None:
    env = on_kafka(project, load_env, broker, "late.")
    prepared(env, broker, "late.", now, 24)
    stream(env, now, now + 6 * HOUR, 6 * HOUR)
    overlay(project, "quiet", {"streaming": {"sinks": []}})
    stream(load_env("prod", project, "stream", "quiet"), now, now + 18 * HOUR, 6 * HOUR)
    env.catalog.compact("predictions.tiny", timedelta())
    stream(env, now, now + 24 * HOUR, 6 * HOUR)
    sent = sorted(row["item_id"] for row in published(broker, "late.predictions"))
    assert sent == sorted(read(env, "predictions.tiny")["item_id"])
    assert len(sent) == 10
    group = kafka.Consumer({"bootstrap.servers": broker.address, "group.id": "prod.tiny.predictions"})
    group.commit(offsets=[kafka.TopicPartition("late.predictions", 0, 1)], asynchronous=False)  # as 0.4.0 did
    group.close()
    with pytest.raises(UserError, match=r"set the offset of the group prod\.tiny\.predictions on late\.predictions to"):
        stream(env, now, now + 30 * HOUR, 6 * HOUR)


def test_a_broker_that_goes_away_and_comes_back_is_waited_for(
    project: Path, load_env: LoadEnv, now: datetime, broker: Broker
) -> None:
    env, until, said = on_kafka(project, load_env, broker, "away."), now + 12 * HOUR, list[str]()
    prepared(env, broker, "away.", now, 12)
    going, back = Stream(env, now), Timer(12, broker.start)
    broker.stop()
    back.start()
    run(going, replayed(now, until, 6 * HOUR, None, Event()), Event(), said.append, live=False)
    going.close()
    back.join()
    assert any("tries again" in line for line in said)
    sent = {values["item_id"] for source, _, values in facts(now, until) if source == "items"}
    assert sorted(read(env, "predictions.tiny")["item_id"]) == sorted(sent)
    assert sorted(row["item_id"] for row in published(broker, "away.predictions")) == sorted(sent)


@pytest.mark.parametrize("wrong", ["bootstrap.servers", "bootstrap.server"])
def test_a_stream_that_cannot_reach_its_broker_does_not_begin(
    wrong: str, project: Path, load_env: LoadEnv, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlplatform.streaming.kafka._TIMEOUT", 1)
    kafka_settings = {"properties": {wrong: "127.0.0.1:1"}}
    overlay(project, "stream", {"streaming": {"source": "kafka", "kafka": kafka_settings}})
    with pytest.raises(UserError, match=f'({wrong}"|127.0.0.1:1).*The stream of prod does not begin'):
        Stream(load_env("prod", project, "stream"), now)


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.nightly)])
def test_a_stream_killed_at_random_moments_publishes_what_an_uninterrupted_one_does(
    kills: int,
    project: Path,
    tmp_path: Path,
    duplicate: Duplicate,
    load_env: LoadEnv,
    now: datetime,
    broker: Broker,
) -> None:
    hours, prefix = 8 * max(3, kills), f"killed-{kills}."
    env, until = on_kafka(project, load_env, broker, prefix, max_events=5), now + hours * HOUR
    prepared(env, broker, prefix, now, hours)
    chance, died = Random(kills), 0
    whole = duplicate(project, tmp_path / "whole")
    while True:
        with subprocess.Popen(command(project, now, until, 120), env=PATH, stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            assert run.stdout.readline() == "ready\n"
            if died < kills:
                sleep(chance.random() * 2)
                died += run.poll() is None
                run.kill()
            run.communicate()
        if run.returncode == 0:
            break
        assert run.returncode == -signal.SIGKILL
    assert died == kills
    settings = env.config.of(StreamingSettings).model_dump(mode="json") | {"sinks": [], "every": "10s", "on_time": "1m"}
    overlay(whole, "stream", {"streaming": settings})
    uninterrupted = load_env("prod", whole, "stream")
    stream(uninterrupted, now, until, 2 * HOUR)
    expected = state(uninterrupted)
    for name, rows in state(env).items():
        assert_equal(rows, expected[name])
    sent = sorted(row["item_id"] for row in published(broker, f"{prefix}predictions"))
    assert sent == sorted(expected["predictions.tiny"]["item_id"])


def test_of_two_streams_that_publish_the_later_goes_on_and_the_earlier_ends(
    project: Path, load_env: LoadEnv, now: datetime, broker: Broker
) -> None:
    env = on_kafka(project, load_env, broker, "two.")
    secret = replace(PROJECT, entity=replace(PROJECT.entity, sensitive=("kind",)))
    env = Environment(env.name, secret, env.folder, env.config)
    prepared(env, broker, "two.", now, 24)

    def advance(stream: Stream, hours: int) -> None:
        stream.advance(now + hours * HOUR, lambda arrived: arrived > now + hours * HOUR)

    earlier = Stream(env, now)
    advance(earlier, 6)
    later = Stream(env, now)
    advance(later, 12)
    with pytest.raises(UserError, match="another stream of this environment publishes now: this one ends"):
        advance(earlier, 18)
    advance(later, 24)
    predicted = read(env, "predictions.tiny")["item_id"].to_list()
    sent = published(broker, "two.predictions")
    assert sorted(row["item_id"] for row in sent) == sorted(predicted)
    assert not any("kind" in row for row in sent), "what is sensitive stays in the table"
    assert len(set(predicted)) == len(predicted) == 10
    for stream_ in (earlier, later):
        stream_.close()


def test_messages_that_the_broker_has_deleted_unread_are_said_to_be_lost(
    project: Path, load_env: LoadEnv, now: datetime, broker: Broker
) -> None:
    env = on_kafka(project, load_env, broker, "lost.")
    admin = import_module("confluent_kafka.admin")
    later = {"message.timestamp.after.max.ms": str(2**63 - 1)}
    client = admin.AdminClient({"bootstrap.servers": broker.address})
    topics = client.create_topics([admin.NewTopic("lost.items", 1, 1, config=later)])
    assert topics["lost.items"].exception(30) is None
    for source, time, values in facts(now, now + 12 * HOUR):
        produce(broker, f"lost.{source}", values, time)
    producer = kafka.Producer({"bootstrap.servers": broker.address})
    producer.produce("lost.items", b"{}", timestamp=10**15)  # microseconds by mistake: the year 33658
    assert producer.flush(30) == 0
    for future in client.delete_records([kafka.TopicPartition("lost.items", 0, 2)]).values():
        future.result(30)
    (first, *rest) = KafkaSource(env).take("items", lambda partition: 0, 10, lambda arrived: False)
    assert (first.offset, first.reason) == (1, "deleted by the broker before they were read: offsets 0 to 1")
    assert [event.offset for event in rest] == [2, 3, 4, 5]
    assert rest[-1].arrived.year < 3000
    assert end_of(file_of(first._replace(arrived=datetime.max))) == datetime.max, "no day comes after it"
