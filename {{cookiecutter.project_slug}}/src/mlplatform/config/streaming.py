"""Settings of the stream: where events come from, how they are taken, and where predictions go besides their table."""

import os
from datetime import timedelta
from typing import Annotated

from pydantic import Field, PositiveInt

from mlplatform.config import Duration, Period, Section
from mlplatform.errors import ConfigError


class KafkaSettings(Section):
    """A source of the project is the topic `<prefix><source>`, predictions go to `<prefix>predictions`."""

    properties: dict[str, str] = Field(description="of librdkafka, such as bootstrap.servers")
    secrets: dict[str, str] = Field({}, description="properties that are secrets: the variable that holds each")
    prefix: str = ""

    def with_secrets(self) -> dict[str, str]:
        """All properties. Raises ConfigError where a variable is missing."""
        if missing := [variable for variable in self.secrets.values() if variable not in os.environ]:
            raise ConfigError(f"streaming.kafka.secrets: the environment lacks {', '.join(missing)}")
        return self.properties | {name: os.environ[variable] for name, variable in self.secrets.items()}


class StreamingSettings(Section):
    source: str = "delta"
    events: str = Field("data/events", description="delta: address of the tables of events, one per source")
    sinks: tuple[str, ...] = Field((), description="kafka: predictions go there, too; online: features to the server")
    kafka: KafkaSettings | None = None
    every: Period = Field(timedelta(seconds=10), description="the time from one micro-batch to the next")
    max_events: PositiveInt = Field(10_000, description="of one source in one micro-batch: it bounds the memory")
    on_time: Duration = Field(
        timedelta(minutes=1), description="what is scored so long after its prediction time is not called late"
    )
    max_refused_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="a micro-batch with more bad events than this stops the stream ..."
    )
    tolerated_rows: Annotated[int, Field(ge=0)] = Field(100, description="... but not for so few")

    def of_kafka(self) -> KafkaSettings:
        if self.kafka is None:
            raise ConfigError("streaming.kafka: properties are missing, bootstrap.servers among them")
        return self.kafka
