"""The platform starts jobs when conf/base.yml says."""

import re
from pathlib import Path

from {{ cookiecutter.package_name }}.delivery.host import WORKFLOWS
from {{ cookiecutter.package_name }}.delivery.schedules import schedules

PROJECT = Path(__file__).resolve().parents[2]
CRON = re.compile(r"""["'](\d[\d*/,-]*(?: [\d*/,-]+){4})["']""")


def test_the_platforms_files_say_the_same_times_as_the_settings() -> None:
    texts = [path.read_text(encoding="utf-8") for path in PROJECT.glob(WORKFLOWS)]
    assert {time for text in texts for time in CRON.findall(text)} == set(schedules(PROJECT).values())
