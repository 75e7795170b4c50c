"""Schedules of conf/base.yml: when the CI platform starts which job."""

from pathlib import Path

from mlplatform.config.loading import load_config
from mlplatform.errors import ConfigError


def schedules(folder: Path) -> dict[str, str]:
    """The cron expression of each job."""
    declared = load_config(folder, "prod").delivery.schedules
    return declared.model_dump() if declared else {}


def job(folder: Path, cron: str) -> str:
    """The job that runs at `cron`; raises ConfigError where there is none."""
    for name, time in schedules(folder).items():
        if time == cron:
            return name
    raise ConfigError(f"no schedule in conf/base.yml, delivery.schedules, says {cron!r}")
