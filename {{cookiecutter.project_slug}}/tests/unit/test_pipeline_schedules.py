"""Pipeline schedules are kept by GitLab: each names a job of conf/base.yml, which the pipeline has to know."""

import re
from pathlib import Path

from {{ cookiecutter.package_name }}.delivery.host import WORKFLOWS
from {{ cookiecutter.package_name }}.delivery.schedules import schedules

PROJECT = Path(__file__).resolve().parents[2]


def test_the_pipeline_knows_the_job_of_every_schedule() -> None:
    pipeline = (PROJECT / WORKFLOWS).read_text(encoding="utf-8")
    assert set(re.findall(r"\$JOB [!=]= \"([a-z]+)\"", pipeline)) - {"model"} == set(schedules(PROJECT))
