"""What arrives where Spark reads: its Structured Streaming hands it over, and Kafka says which offsets there are."""

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from mlplatform.engine import Engine
from mlplatform.engine.spark import Frame, Spark
from mlplatform.errors import ConfigError, UserError
from mlplatform.storage.catalog import Relation

_OF_KAFKA = re.compile(r"org\.apache\.kafka\.[\w.]*?(\w+Exception): ([^\n]*)")
_LOST = re.compile(r"KAFKA_DATA_LOSS|OffsetOutOfRange|data may have been lost|FILE_NOT_EXIST")
_IGNORES = "spark.sql.files.ignoreMissingFiles"


class KafkaError(UserError):
    """What Kafka's client says: the name of its error, and the message."""


class LostError(UserError):
    """Messages or files were deleted while they were read."""


class Queries:
    """Queries on the session of this process. Checkpoints end with them: `options` say where it begins."""

    def __init__(self, engine: Spark) -> None:
        self._engine = engine

    def hand_over(
        self,
        kind: str,
        options: Mapping[str, str],
        columns: Sequence[str],
        land: Callable[[Relation], None],
        *,
        damaged: bool = False,
    ) -> None:
        """Give `land` what there is now, batch by batch.

        `kind`, `options` and `columns` are those of Spark's reader; `damaged`: files that are gone are passed over.
        Raises KafkaError, LostError, OverflowError for a timestamp that Spark cannot hold, and what `land` raises.
        """
        raised: list[Exception] = []
        session = self._engine._session

        def take(frame: Any, number: int) -> None:
            try:
                # A query has a session of its own: by their names no other one finds its frames.
                frame.createOrReplaceGlobalTempView("arrived")
                land(Frame(session.table("global_temp.arrived"), (), keeps=True))
            except Exception as error:
                raised.append(error)
                raise

        with _told(raised), tempfile.TemporaryDirectory(prefix="mlplatform-") as checkpoint:
            self._quiet()
            session.conf.set(_IGNORES, str(damaged).lower())
            try:
                arriving = session.readStream.format(kind).options(**options).load().selectExpr(*columns)
                writer = arriving.writeStream.option("checkpointLocation", f"file://{checkpoint}")
                writer.trigger(availableNow=True).foreachBatch(take).start().awaitTermination()
            finally:
                session.conf.unset(_IGNORES)

    def _quiet(self) -> None:
        """What ends a query is raised here: the traces that Spark would log of it tell nothing more."""
        log4j = self._engine._session._jvm.org.apache.logging.log4j
        log4j.core.config.Configurator.setLevel("org.apache.spark.sql.execution.streaming", log4j.Level.OFF)

    def unknown_to_kafka(self, properties: Mapping[str, str]) -> list[str]:
        """The properties that Kafka's client for Java does not know, and would ignore."""
        clients = self._kafka.clients
        known = {*clients.consumer.ConsumerConfig.configNames(), *clients.admin.AdminClientConfig.configNames()}
        return sorted(properties.keys() - known)

    def kafka_offsets(self, properties: Mapping[str, str], topic: str) -> dict[int, tuple[int, int]]:
        """Of each partition of a topic the first offset, and the one after all that is committed. Raises KafkaError."""
        kafka = self._kafka
        place, admin = kafka.common.TopicPartition, kafka.clients.admin
        committed = admin.ListOffsetsOptions(kafka.common.IsolationLevel.READ_COMMITTED)
        with _told():
            client = admin.AdminClient.create(dict(properties))
            try:
                found = client.describeTopics([topic]).allTopicNames().get()[topic]
                numbers, ends = [each.partition() for each in found.partitions()], []
                for end in (admin.OffsetSpec.earliest(), admin.OffsetSpec.latest()):
                    listed = client.listOffsets({place(topic, number): end for number in numbers}, committed)
                    ends.append([listed.partitionResult(place(topic, number)).get().offset() for number in numbers])
                return dict(zip(numbers, zip(*ends, strict=True), strict=True))
            finally:
                client.close()

    @property
    def _kafka(self) -> Any:
        from py4j.java_gateway import JavaPackage

        kafka = self._engine._session._jvm.org.apache.kafka
        if isinstance(kafka.common.TopicPartition, JavaPackage):  # that is what a class is that there is not
            raise ConfigError("streaming.source: kafka on Spark needs the jars of jars/kafka.xml: run `make spark`")
        return kafka


def queries(engine: Engine, master: str) -> Queries | None:
    """The streaming queries of an engine that can have some: its session has to be of this process."""
    return Queries(engine) if isinstance(engine, Spark) and not re.match("sc://|databricks$", master) else None


@contextmanager
def _told(raised: Sequence[Exception] = ()) -> Iterator[None]:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JError) as error:
        first: Exception = raised[0] if raised else error
        if isinstance(first, PySparkException | Py4JError):
            if _LOST.search(str(first)):
                raise LostError from first
            if "ArithmeticException: long overflow" in str(first):
                raise OverflowError from first
            if said := _OF_KAFKA.findall(str(first)):
                raise KafkaError(*said[-1]) from first
        raise first from None
