"""Settings of training: what a model is trained and judged on, and how its hyperparameters are found."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from mlplatform.config.section import Duration, Section

Share = Annotated[float, Field(gt=0, le=1)]


class Tuning(Section):
    """The search for hyperparameters, over expanding time-series folds."""

    enabled: bool = False
    trials: Annotated[int, Field(ge=1)] = 10
    timeout: Annotated[Duration, Field(gt=timedelta(0))]
    folds: Annotated[int, Field(ge=2)] = 3
    fraction: Share = Field(1.0, description="share of the training rows that the search sees")


class TrainingSettings(Section):
    holdout: Duration = Field(description="the newest part of the labelled data, kept for evaluation")
    history: Duration | None = Field(None, description="how far back training reaches; null means everything")
    fraction: Share = Field(1.0, description="share of the entities that are trained on")
    min_rows: Annotated[int, Field(ge=1)] = 1000
    tuned_in: Literal["dev", "staging", "prod"] = Field(
        "dev", description="environment whose newest tuned model gives the hyperparameters where tuning is off"
    )
    tuning: Tuning
