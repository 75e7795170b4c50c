"""Streams that Spark's Structured Streaming feeds: what they write is what a stream on DuckDB does."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import write_deltalake

pytest.importorskip("pyspark")

from broker import Broker, missing
from mlplatform.engine.structured import Queries
from mlplatform.environment import Environment
from mlplatform.errors import ConfigError, UserError
from mlplatform.storage.catalog import Among, open_catalog
from mlplatform.storage.delta import DeltaCatalog
from mlplatform.streaming.delta import DeltaSource
from mlplatform.streaming.events import UnavailableError, as_rows
from mlplatform.streaming.stream import Stream, told_to_stop
from mlplatform.streaming.structured import DeltaHandover, KafkaHandover, for_java
from sparks import HERE
from steps import Killed, overlay, read
from streams import HOUR, assert_equal, facts, state

LoadEnv = Callable[..., Environment]
Duplicate = Callable[[Path, Path], Path]
Sent = list[tuple[datetime, str, dict[str, Any]]]
pytestmark = pytest.mark.spark
ON_SPARK = {"lakehouse": {"engine": "spark", "spark": HERE}}
EPOCH = datetime(1970, 1, 1)
# A process that kills itself as soon as it has written events to Bronze.
DIES = """
import os, signal, sys
from datetime import datetime, timedelta
from pathlib import Path
from mlplatform.environment import Environment
from mlplatform.storage.delta import DeltaCatalog
from mlplatform.streaming.stream import Stream
from tiny.project import PROJECT

append = DeltaCatalog.append
def mortal(self, name, *arguments):
    rows = append(self, name, *arguments)
    if name == "bronze.items":
        os.kill(os.getpid(), signal.SIGKILL)
    return rows
DeltaCatalog.append = mortal
folder, since, as_of = sys.argv[1:]
env = Environment.load("prod", PROJECT, Path(folder), ("test", "stream", "spark"))
Stream(env, datetime.fromisoformat(since)).advance(datetime.fromisoformat(as_of), lambda arrived: False)
"""


def arriving(now: datetime, hours: int) -> Sent:
    """What is sent in so many hours, some of it late, and poison among it."""
    found: Sent = []
    for number, (source, time, values) in enumerate(facts(now, now + hours * HOUR)):
        found.append((time + (number % 4 == 3) * HOUR, source, values))
        if number % 5 == 4:
            found.append((time, source, {**values, "item_id": "poison", "amount": "much"}))
    return sorted(found, key=lambda sent: sent[0])


def between(sent: Sent, since: datetime, until: datetime) -> Sent:
    return [each for each in sent if since < each[0] <= until]


def advance(stream: Stream, as_of: datetime) -> None:
    stream.advance(as_of, lambda arrived: False)


def places(env: Environment) -> pl.DataFrame:
    """Which event has which number."""
    return read(env, "bronze.items").select("source_file", "source_row", "item_id", "amount").sort(pl.all())


def write(env: Environment, source: str, events: list[dict[str, Any]]) -> None:
    """One commit of several files: a folder for each kind."""
    rows, table = pa.Table.from_pylist(events), env.folder / "data" / "events" / source
    write_deltalake(str(table), rows, mode="append", schema_mode="merge", partition_by=["kind"])


def test_a_stream_that_changes_its_engine_and_is_killed_twice_ends_as_one_to_which_nothing_happened(
    project: Path, tmp_path: Path, duplicate: Duplicate, load_env: LoadEnv, now: datetime
) -> None:
    """It dies within a commit on DuckDB, goes on and dies on Spark, goes on there, and then on DuckDB again."""
    overlay(project, "stream", {"streaming": {"max_events": 3}})
    overlay(project, "spark", ON_SPARK)
    whole, env = load_env("prod", duplicate(project, tmp_path / "whole"), "stream"), load_env("prod", project, "stream")
    times, sent = [now + hours * HOUR for hours in (0, 12, 16, 20)], arriving(now, 24)

    def send_until(number: int) -> datetime:
        for source in ("items", "outcomes"):
            arrived = between(sent, times[number - 1], times[number])
            events = [{**values, "landed_at": at} for at, name, values in arrived if name == source]
            write(env, source, events)
        shutil.copytree(project / "data" / "events", whole.folder / "data" / "events", dirs_exist_ok=True)
        return times[number]

    until, append = send_until(1), DeltaCatalog.append

    def mortal(catalog: DeltaCatalog, name: str, *arguments: Any) -> int:
        written = append(catalog, name, *arguments)
        if name == "bronze.items":
            raise Killed
        return written

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(DeltaCatalog, "append", mortal)
        advance(Stream(env, now), until)
    landed = read(env, "bronze.items").filter(pl.col("landed_at") > now).height
    assert 0 < landed <= 3, "it died within the commit"
    command = [sys.executable, "-c", DIES, str(project), now.isoformat(), until.isoformat()]
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(command, env=path, timeout=240).returncode == -signal.SIGKILL
    assert read(env, "bronze.items").filter(pl.col("landed_at") > now).height > landed
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        told_to_stop()
        listens, going = signal.getsignal(signal.SIGINT), Stream(load_env("prod", project, "stream", "spark"), now)
        assert isinstance(going._handover, DeltaHandover)
        advance(going, send_until(2))
        assert signal.getsignal(signal.SIGINT) is listens, "Ctrl-C would not let the micro-batch end"
    finally:
        for heard, handler in before.items():
            signal.signal(heard, handler)
    send_until(3)
    for each in (env, whole):
        advance(Stream(each, now), times[3])
    expected = state(whole)
    assert expected["predictions.tiny"].height > 5
    assert expected["quarantine.items"].height
    for name, rows in state(env).items():
        assert_equal(rows, expected[name])
    assert places(env).equals(places(whole))


def test_commits_are_read_as_by_the_platforms_own_loop_also_where_some_were_cleaned_away(
    project: Path, load_env: LoadEnv, now: datetime
) -> None:
    overlay(project, "spark", ON_SPARK)
    env, folder = load_env("prod", project, "spark"), project / "data" / "events" / "items"
    tables = open_catalog(project, "data", owner="events", reader="events")
    items = [values for source, _, values in facts(now, now + 80 * HOUR) if source == "items"]
    source, engine, loop = env.project.sources[0], env.engine, DeltaSource(env)
    assert len(items) > 20

    def both(start: int) -> dict[int, str | None]:
        """The numbers of what both read from one on, and why some of it is no event."""
        found: list[pl.DataFrame] = []

        def land(rows: Any) -> None:
            found.append(pl.DataFrame(rows))

        handover = DeltaHandover(env, Queries(engine), lambda *_: start)  # type: ignore[arg-type]
        for _ in range(2):  # the second time there is nothing new
            handover.hand_over(source, now, land)
        assert len(found) == 1
        own = pl.DataFrame(as_rows(source.columns, now, loop.take("items", lambda _: start, 100, lambda _: False)))
        ours, theirs = (rows.drop("ingested_at").sort("source_row") for rows in (own, found[0]))
        assert theirs.filter(pl.col("source_row") >= start).equals(ours)
        return dict(ours.select("source_row", "_reason").rows())

    write(env, "items", items[:5])
    write(env, "items", [{**values, "colour": "red"} for values in items[5:9]])
    tables.delete("events.items", Among("item_id", [items[0]["item_id"]]))
    write(env, "items", items[9:12])
    assert list(both(10**9 + 2)) == [10**9 + 2, 10**9 + 3, *range(3 * 10**9, 3 * 10**9 + 3)]
    tables.compact("events.items", timedelta(0))
    begin = tables.snapshot("events.items").version + 1
    for number in (12, 15, 18):
        write(env, "items", items[number : number + 3])
    (first, *rest) = both(0).values()
    assert str(first).startswith("deleted before they were read: versions 0 to ")
    assert rest == [None] * 9
    log = (folder / "_delta_log" / f"{begin + 1:020}.json").read_text().splitlines()
    files = [action["add"]["path"] for action in map(json.loads, log) if "add" in action]
    assert len(files) > 1
    (folder / files[-1]).unlink()
    gone = f"deleted before they were read: versions {begin + 1} to {begin + 1} of events.items"
    read_ = both(begin * 10**9)
    assert read_[(begin + 2) * 10**9 - 1] == gone
    assert 6 < len(read_) < 10, "of a commit that lacks a file what came before it was read"
    shutil.rmtree(folder)
    write(env, "items", items[:1])
    with pytest.raises(UserError, match=r"events\.items is at version 0.*it was made anew.*streaming\.events"):
        both(begin * 10**9)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    found = Broker(tmp_path / "kafka")
    yield found
    found.stop()


def on_kafka(project: Path, address: str, **properties: str) -> None:
    kafka = {"properties": {"bootstrap.servers": address, **properties}}
    overlay(project, "stream", {"streaming": {"source": "kafka", "kafka": kafka, "max_events": 6}})
    overlay(project, "spark", ON_SPARK)


@pytest.mark.skipif(bool(missing()), reason=missing() or "a broker can be started")
def test_a_topic_is_read_as_by_the_platforms_own_loop_which_goes_on_from_there(
    project: Path, tmp_path: Path, duplicate: Duplicate, load_env: LoadEnv, now: datetime, broker: Broker
) -> None:
    kafka: Any = pytest.importorskip("confluent_kafka")
    admin = import_module("confluent_kafka.admin")
    on_kafka(project, broker.address, **{"security.protocol": "plaintext"})
    whole = load_env("prod", duplicate(project, tmp_path / "whole"), "stream")
    env = load_env("prod", project, "stream", "spark")
    half, end, sent = now + 8 * HOUR, now + 16 * HOUR, arriving(now, 16)
    client, producer = (kind({"bootstrap.servers": broker.address}) for kind in (admin.AdminClient, kafka.Producer))
    any_time = {"message.timestamp.after.max.ms": str(2**63 - 1)}
    assert client.create_topics([admin.NewTopic("items", 1, 1, config=any_time)])["items"].exception(30) is None

    def produce(since: datetime, until: datetime) -> None:
        for at, source, values in between(sent, since, until):
            value = "{poison" if values["item_id"] == "poison" else json.dumps(values)
            producer.produce(source, value, timestamp=int((at - EPOCH).total_seconds() * 1000))
        assert producer.flush(30) == 0

    stream, other = Stream(env, now), Stream(whole, now)
    assert isinstance(stream._handover, KafkaHandover)
    produce(now, half)
    producer.produce("items", b"{}", timestamp=10**15)  # microseconds by mistake: the year 33658
    assert producer.flush(30) == 0
    for going in (stream, other):
        advance(going, half)
    produce(half, end)
    for going in (Stream(load_env("prod", project, "stream"), now), other):
        advance(going, end)
    expected = state(whole)
    assert expected["predictions.tiny"].height > 5
    for name, rows in state(env).items():
        assert_equal(rows, expected[name])
    assert places(env).equals(places(whole))

    def delete(before: int) -> None:
        for future in client.delete_records([kafka.TopicPartition("items", 0, before)]).values():
            future.result(30)

    def begun(offset: int) -> KafkaHandover:
        return KafkaHandover(env, Queries(env.engine), lambda *_: offset)  # type: ignore[arg-type]

    def hand_over(handover: KafkaHandover) -> dict[int, str | None]:
        found: list[pl.DataFrame] = []

        def land(rows: Any) -> None:
            found.append(pl.DataFrame(rows))

        handover.hand_over(env.project.sources[0], end, land)
        return dict(pl.concat(found).sort("source_row").select("source_row", "_reason").rows())

    length = sum(source == "items" for _, source, _ in sent) + 1
    delete(length - 3)
    found = hand_over(begun(0))
    assert found.pop(length - 4) == f"deleted by the broker before they were read: offsets 0 to {length - 4}"
    assert list(found) == [length - 3, length - 2, length - 1]
    stale, ends = begun(0), {0: (0, length)}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UnavailableError, match="items were deleted while"):
        patch.setattr(stale, "_ends", lambda topic: ends)
        hand_over(stale)
    with pytest.raises(UserError, match=r"items/0 ends at .* and 1000 messages of it have been read: it was made anew"):
        hand_over(begun(1000))
    producer.produce("items", b"{}", timestamp=2 * 10**18)  # nanoseconds by mistake, which Spark cannot read
    assert producer.flush(30) == 0
    with pytest.raises(UserError, match=r"items: .*timestamp.*lakehouse\.engine: duckdb"):
        hand_over(begun(length))


def test_a_stream_that_cannot_reach_its_broker_does_not_begin_on_spark_either(
    project: Path, load_env: LoadEnv, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlplatform.streaming.structured._TIMEOUT", "1000")
    on_kafka(project, "127.0.0.1:1")
    with pytest.raises(UserError, match=r"kafka at 127\.0\.0\.1:1: .*The stream of prod does not begin"):
        Stream(load_env("prod", project, "stream", "spark"), now)
    on_kafka(project, "127.0.0.1:1", **{"statistics.interval.ms": "1000"})
    with pytest.raises(ConfigError, match=r"streaming\.kafka\.properties: statistics\.interval\.ms: unknown to"):
        Stream(load_env("prod", project, "stream", "spark"), now)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_properties_of_librdkafka_are_put_as_the_java_client_wants_them(mechanism: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("of the authority")
    given = {"bootstrap.servers": "a:1", "security.protocol": "sasl_ssl", "sasl.mechanisms": mechanism}
    login = {"sasl.username": "me", "sasl.password": 'a"b\\c', "ssl.ca.location": str(tmp_path / "ca.pem")}
    kind = "plain.Plain" if mechanism == "PLAIN" else "scram.Scram"
    module = f"org.apache.kafka.common.security.{kind}LoginModule"
    assert for_java({**given, **login}) == {
        "bootstrap.servers": "a:1",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": mechanism,
        "sasl.jaas.config": rf'{module} required username="me" password="a\"b\\c";',
        "ssl.truststore.type": "PEM",
        "ssl.truststore.certificates": "of the authority",
    }
    for theirs in ({"sasl.jaas.config": "x", "sasl.mechanism": mechanism}, {"ssl.truststore.location": "x"}):
        assert for_java(theirs) == theirs
