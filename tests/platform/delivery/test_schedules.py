"""Schedules: conf/base.yml says when the CI platform starts which job."""

import shutil
from pathlib import Path

import pytest
import yaml

from conftest import CONF
from mlplatform.config.loading import load_config
from mlplatform.config.sections import DeliverySettings
from mlplatform.errors import ConfigError

TIMES = {
    "nightly": "30 1 * * *",
    "refresh": "5 * * * *",
    "monitor": "30 6 * * *",
    "retrain": "30 7 * * *",
    "maintain": "30 3 * * *",
    "dependencies": "0 4 * * 1",
}


def settings(folder: Path) -> DeliverySettings:
    return load_config(folder, "prod").delivery


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return scheduled(tmp_path, TIMES)


def scheduled(folder: Path, times: dict[str, str]) -> Path:
    """A project whose jobs start at these times."""
    shutil.copytree(CONF, folder / "conf")
    with (folder / "conf" / "base.yml").open("a", encoding="utf-8") as base:
        yaml.safe_dump({"delivery": {"schedules": times}}, base)
    return folder


def test_a_time_stands_for_its_job_and_no_other_does(folder: Path) -> None:
    assert settings(folder).jobs() == TIMES
    for name, time in TIMES.items():
        assert settings(folder).job(time) == name
    with pytest.raises(ConfigError, match="no schedule in conf"):
        settings(folder).job("1 1 1 1 1")


def test_settings_of_before_maintain_was_a_job_still_give_it_a_time(tmp_path: Path) -> None:
    earlier = {name: time for name, time in TIMES.items() if name != "maintain"}
    assert settings(scheduled(tmp_path, earlier)).job(TIMES["maintain"]) == "maintain"


def test_a_project_without_a_ci_platform_has_no_schedules() -> None:
    assert settings(CONF.parent).jobs() == {}


@pytest.mark.parametrize(
    ("times", "why"),
    [
        ({**TIMES, "monitor": TIMES["refresh"]}, "two schedules say the same time"),
        ({**TIMES, "monitor": "@daily"}, "five fields of cron"),
        ({**TIMES, "monitor": "30 6 * *"}, "five fields of cron"),
        ({**TIMES, "weekly": "0 0 * * 0"}, "unknown key"),
    ],
    ids=["the same time twice", "a word", "four fields", "an unknown job"],
)
def test_times_that_do_not_tell_jobs_apart_are_refused(tmp_path: Path, times: dict[str, str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        settings(scheduled(tmp_path, times))
