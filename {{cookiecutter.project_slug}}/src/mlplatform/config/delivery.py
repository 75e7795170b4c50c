"""Settings of delivery: when the platform starts what, as cron expressions in UTC."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from mlplatform.config import Section
from mlplatform.errors import ConfigError


def _cron(value: str) -> str:
    if not re.fullmatch(r"[\d*/,-]+( [\d*/,-]+){4}", value):
        raise ValueError("a schedule is five fields of cron (minute hour day month weekday), in numbers")
    return value


Cron = Annotated[str, AfterValidator(_cron)]


class Schedules(Section):
    """The only place that decides on times: the tests hold the platform's files against it."""

    nightly: Cron
    refresh: Cron
    monitor: Cron
    retrain: Cron
    maintain: Cron = "30 3 * * *"
    dependencies: Cron

    @model_validator(mode="after")
    def _are_told_apart(self) -> "Schedules":
        if len(set(self.model_dump().values())) < len(self.model_dump()):
            raise ValueError("two schedules say the same time: the platform starts jobs by it")
        return self


class DeliverySettings(Section):
    host: Literal["github", "gitlab", "azure_devops", "by_hand"] = Field(
        "by_hand", description="the CI platform whose API is asked what passed and who approved"
    )
    schedules: Schedules | None = None

    def jobs(self) -> dict[str, str]:
        """The cron expression of each job that the CI platform starts."""
        return self.schedules.model_dump() if self.schedules else {}

    def job(self, cron: str) -> str:
        """The job that runs at `cron`; raises ConfigError where there is none."""
        for name, time in self.jobs().items():
            if time == cron:
                return name
        raise ConfigError(f"no schedule in conf/base.yml, delivery.schedules, says {cron!r}")
