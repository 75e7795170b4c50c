"""Schedules of conf/base.yml: python -m <package>.delivery.schedules lists them, with their jobs.

With a schedule, such as '5 * * * *', it prints the job that this stands for.
"""

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
    if len(sys.argv) > 1:
        print(job(find_project(), sys.argv[1]))
    else:
        print(*(f"{time:<12} JOB={name}" for name, time in schedules(find_project()).items()), sep="\n")
