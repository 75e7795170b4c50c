"""Print the job that a schedule of conf/base.yml stands for: python -m <package>.delivery.schedules '5 * * * *'."""

import sys
from pathlib import Path

from ..config import ConfigError, find_project, load_config
from .settings import Settings


def schedules(project: Path) -> dict[str, str]:
    """The cron expression of each job."""
    return load_config(project, "prod").section(Settings).schedules.model_dump()


def job(project: Path, cron: str) -> str:
    """The job that runs at `cron`; raises ConfigError where there is none."""
    for name, time in schedules(project).items():
        if time == cron:
            return name
    raise ConfigError(f"no schedule in conf/base.yml, delivery.schedules, says {cron!r}")


if __name__ == "__main__":
    print(job(find_project(), sys.argv[1]))
