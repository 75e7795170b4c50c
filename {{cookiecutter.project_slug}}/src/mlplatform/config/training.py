"""Settings of training: what a model is trained and judged on, and how its hyperparameters are found."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mlplatform.config import Duration, Period, Section

Share = Annotated[float, Field(gt=0, le=1)]


class Tuning(Section):
    """The search for hyperparameters, over expanding time-series folds."""

    enabled: bool = False
    trials: Annotated[int, Field(ge=1)] = 10
    timeout: Period
    folds: Annotated[int, Field(ge=2)] = 3
    fraction: Share = Field(default=1.0, description="share of the training rows that the search sees")


class TrainingSettings(Section):
    split: Literal["time", "group", "random"] = Field(
        "time", description="what is held out for evaluation: the newest rows, a share of groups, or of all rows"
    )
    holdout: Duration = Field(timedelta(days=30), description="by time: the newest part of the labelled data")
    group: str | None = Field(None, description="by group: the column of joined rows whose values stay together")
    holdout_share: Annotated[float, Field(gt=0, lt=1)] = Field(0.2, description="by group or random: what share")
    seed: int = Field(0, description="by group or random: another seed holds out other rows")
    history: Duration | None = Field(None, description="how far back training reaches; null means everything")
    fraction: Share = Field(default=1.0, description="share of the entities that are trained on")
    max_rows: Annotated[int, Field(ge=2)] = Field(
        500_000, description="of training rows, and of held-out rows: of more, those of a smaller share of the entities"
    )
    min_rows: Annotated[int, Field(ge=2)] = Field(100, description="of training rows, and of held-out rows")
    min_class_rows: Annotated[int, Field(ge=1)] = Field(5, description="training rows of each class")
    tuned_in: Literal["dev", "staging", "prod"] = Field(
        "dev", description="environment whose newest tuned model gives the hyperparameters where tuning is off"
    )
    tuning: Tuning

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if (self.split == "group") != (self.group is not None):
            raise ValueError("'group' names the column of split: group, and is for no other split")
        if self.max_rows < self.min_rows:
            raise ValueError(f"'max_rows' is {self.max_rows:,}, less than 'min_rows' of {self.min_rows:,}")
        return self
