"""Settings of the pipelines: which code may run, what is scored and when to retrain."""

import re
from typing import Literal, Self

from pydantic import Field, model_validator

from mlplatform.config import Duration, Period, Section


class Sink(Section):
    """Where predictions of batch go, too: a table of a database, or a file of each day.

    `to`: of a database, the environment variable that holds its SQLAlchemy address; of files, a folder or an address.
    """

    kind: Literal["database", "parquet", "csv"]
    to: str = Field(min_length=1)
    table: str = Field("predictions", pattern=r"^[A-Za-z_]\w*$", description="of a database")

    @model_validator(mode="after")
    def _holds_no_secret(self) -> Self:
        if self.kind == "database" and not re.fullmatch(r"[A-Za-z_]\w*", self.to):
            raise ValueError("'to' names the environment variable that holds the database's address: that is a secret")
        return self


class Inference(Section):
    """Batch scoring."""

    first_window: Duration = Field(description="how far back the first run reaches, and each run for what landed late")
    batch_window: Period = Field(description="span of prediction times scored at once: it bounds the memory")
    sinks: tuple[Sink, ...] = ()

    @model_validator(mode="after")
    def _sinks_differ(self) -> Self:
        places = [(sink.to, sink.table if sink.kind == "database" else "") for sink in self.sinks]
        if len(set(places)) < len(places):
            raise ValueError("two of 'sinks' are the same place: each file or table has one that writes it")
        return self


class Retraining(Section):
    """When `retrain` trains: manual (never by itself), scheduled (every so often) or triggered (by an alert)."""

    mode: Literal["manual", "scheduled", "triggered"] = "manual"
    every: Duration
    cooldown: Duration = Field(description="the least time between two trainings that alerts ask for")
    alerts_from: Literal["dev", "staging", "prod"] | None = Field(
        None, description="environment whose alerts are answered; null means its own"
    )


class PipelineSettings(Section):
    released_code_only: bool = True
    refused: tuple[Literal["ingest", "featurize", "train", "deploy", "infer", "monitor"], ...] = Field(
        (), description="pipelines that do not run in this environment"
    )
    inference: Inference
    retraining: Retraining
