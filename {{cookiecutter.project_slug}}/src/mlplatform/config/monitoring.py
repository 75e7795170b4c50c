"""What is monitored and when it becomes an alert: the `monitoring` section of conf/*.yml."""

import re
from datetime import timedelta
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveInt,
    model_validator,
)

from mlplatform.config import Duration, Period, Section


class Breaches(NamedTuple):
    """A rule fires when `breached` of the last `of` windows breach, the latest one among them."""

    breached: int
    of: int


def _windows(value: object) -> Breaches:
    match = re.fullmatch(r"(\d+) of (?:the last )?(\d+)", value) if isinstance(value, str) else None
    pair = Breaches(*map(int, match.groups())) if match else value
    if not isinstance(pair, Breaches) or not 1 <= pair.breached <= pair.of:
        raise ValueError(f"{value!r} is not 'N of M' with 1 <= N <= M (for example '2 of 3')")
    return pair


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise ValueError("name the environment variable that holds the Apprise URL: the URL itself is a secret")
    return name


Names = tuple[str, ...]


class Rule(Section):
    """One alert rule: a metric, where it is looked at, the limit, and what happens when it is crossed.

    `columns`, `except_columns` and `slices` take names or shell patterns (`prices__*`, `country=*`).
    The slice named `all` is every row together; `*` is each slice, that one included.
    """

    name: str = Field(min_length=1)
    metric: str = Field(min_length=1)
    columns: Names = Field(default=("*",), min_length=1)
    except_columns: Names = ()
    slices: Names = Field(default=("all",), min_length=1)
    above: float | None = None
    below: float | None = None
    windows: Annotated[Breaches, BeforeValidator(_windows)] = Breaches(1, 1)
    action: Literal["notify", "retrain"] = "notify"

    @model_validator(mode="after")
    def _can_fire(self) -> Self:
        if self.above is None and self.below is None:
            raise ValueError(f"rule {self.name!r} can never fire: give it 'above', 'below' or both")
        if self.above is not None and self.below is not None and self.below >= self.above:
            raise ValueError(f"rule {self.name!r} always fires: 'below' must be less than 'above'")
        if set(self.columns) <= set(self.except_columns):
            raise ValueError(f"rule {self.name!r} can never fire: every column it names is in 'except_columns'")
        return self


def _told_apart(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    names = [rule.name for rule in rules]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"rule names must differ; repeated: {', '.join(repeated)}")
    return rules


class MonitoringSettings(Section):
    """The `monitoring` section. Durations are written like `7d` or `6h`.

    Windows follow one another without a gap, each of length `window`. Labels of a window count as complete
    `label_delay` after its end. A window, or a slice of one, with fewer than `min_rows` rows says nothing
    about drift or performance: with n rows a PSI of about (bins - 1) / n is expected where nothing has
    changed. With more than `max_rows` predictions, those of a share of the entities stand for all. `notify` names
    the environment variables that hold Apprise URLs; without any, alerts are printed.
    """

    window: Period = timedelta(days=7)
    label_delay: Duration = timedelta(days=2)
    psi_bins: Annotated[int, Field(ge=2, le=100)] = 10
    min_rows: PositiveInt = 200
    max_rows: PositiveInt = 500_000
    rules: Annotated[tuple[Rule, ...], AfterValidator(_told_apart)] = ()
    notify: tuple[Annotated[str, AfterValidator(_variable)], ...] = ()
