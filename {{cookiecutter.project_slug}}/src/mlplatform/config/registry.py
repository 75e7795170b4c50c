"""Settings of the registry: where models are kept, and what each gate asks of them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mlplatform.config import Period, Section


class SliceLimit(Section):
    """The least or the most that a held-out metric may be in every slice of a column."""

    metric: str
    column: str
    at_least: float | None = None
    at_most: float | None = None
    min_rows: int = Field(200, description="slices with fewer rows are not judged")

    @model_validator(mode="after")
    def _has_a_limit(self) -> "SliceLimit":
        if self.at_least is None and self.at_most is None:
            raise ValueError("a limit needs at_least, at_most or both: without one it could not refuse")
        return self


class Compliance(Section):
    required_tags: tuple[str, ...]
    slice_limits: tuple[SliceLimit, ...]


class Comparison(Section):
    """A challenger wins when it is better by `margin`, and the interval of the difference lies above zero.

    The chance that an equal challenger wins is (1 - confidence) / 2. With fewer blocks than six, a challenger that is
    better in each of them could be so by chance more often: 2 ** -5 is 0.031.
    """

    margin: Annotated[float, Field(ge=0)] = 0.0
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    block: Period = Field(description="rows of one block count together, since they are not independent")
    min_blocks: Annotated[int, Field(ge=2)] = 6
    min_rows: Annotated[int, Field(ge=1)] = 100


class RegistrySettings(Section):
    tracking_uri: str = Field(description="MLflow's store; a relative sqlite path starts at the project's root")
    artifacts: str = Field(description="folder or address of MLflow's artifacts")
    model: str = Field(description="models are registered as <env>.<model>")
    unity_schema: str | None = Field(
        None, description="<catalog>.<schema> of Unity Catalog, where models are registered instead: prod.rides_models"
    )
    experiment: str | None = Field(None, description="MLflow's name of the experiment; null: that of the model")
    compliance: Compliance
    comparison: Comparison
    approval: Literal["automatic", "manual"] = "manual"
    forget: Literal["list", "archive"] = Field(
        "list", description="what `forget` does with versions that were trained on the rows"
    )
