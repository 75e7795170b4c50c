"""The platform's files call only what there is, at the times that conf/base.yml sets."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from {{ cookiecutter.package_name }} import cli
from {{ cookiecutter.package_name }}.config import ConfigError
from {{ cookiecutter.package_name }}.delivery.host import WORKFLOWS
from {{ cookiecutter.package_name }}.delivery.schedules import job, schedules

PROJECT = Path(__file__).resolve().parents[2]
MAKEFILE = (PROJECT / "Makefile").read_text(encoding="utf-8")
FILES = {path.name: path.read_text(encoding="utf-8") for path in sorted(PROJECT.glob(WORKFLOWS))}
CALL = re.compile(r"\bmake ([^\n#|;&]+)")


def targets(text: str) -> set[str]:
    """What a file asks make for, TARGETS included."""
    code = re.sub("#.*", "", text)
    words = [word for call in CALL.findall(code) for word in re.sub(r"TARGETS=|[A-Z]+=\S*|[\"']", " ", call).split()]
    return {word for word in words if not word.startswith("-")}


@pytest.mark.parametrize("name", FILES)
def test_every_target_exists(name: str) -> None:
    known = {word for line in re.findall(r"^([a-z][a-z -]*):", MAKEFILE, re.MULTILINE) for word in line.split()}
    known |= set(re.findall(r"^PIPELINES := (.*)$", MAKEFILE, re.MULTILINE)[0].split())
    assert targets(FILES[name])
    assert targets(FILES[name]) - known == set()


def test_every_command_of_the_makefile_exists() -> None:
    commands = {tuple(words.split()) for words in re.findall(r"\$\(RUN\) ([a-z]+(?: [a-z]+)?)", MAKEFILE)}
    assert ("delivery", "cut") in commands
    app: Any = get_command(cli.collect())
    for first, *rest in commands:
        assert first in app.commands
        if hasattr(app.commands[first], "commands"):
            assert set(rest) < set(app.commands[first].commands)


def test_a_time_stands_for_its_job_and_no_other_does() -> None:
    for name, time in schedules(PROJECT).items():
        assert job(PROJECT, time) == name
    with pytest.raises(ConfigError, match="no schedule in conf"):
        job(PROJECT, "1 1 1 1 1")


def test_a_job_is_asked_for_by_its_time() -> None:
    time = schedules(PROJECT)["refresh"]
    command = [sys.executable, "-m", f"{cli.__package__}.delivery.schedules", time]
    variables = {"PYTHONPATH": "src", "PATH": ""}
    done = subprocess.run(command, cwd=PROJECT, env=variables, check=True, capture_output=True, text=True)
    assert done.stdout == "refresh\n"
