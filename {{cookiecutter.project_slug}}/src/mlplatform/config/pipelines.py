"""Settings of the pipelines: which code may run, what is scored and when to retrain."""

from typing import Literal

from pydantic import Field

from mlplatform.config.section import Duration, Section


class Inference(Section):
    """Batch scoring."""

    first_window: Duration = Field(description="how far back the first run reaches, and each run for what landed late")
    batch_window: Duration = Field(description="span of prediction times scored at once: it bounds the memory")


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
