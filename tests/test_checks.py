"""The checks themselves: each finds the bad case."""

from collections.abc import Callable
from pathlib import Path

import pytest
from checks import (
    broken_links,
    empty,
    ignored,
    leftovers,
    lint,
    shell,
    traces_of_flights,
    unreadable,
    wrong_modes,
)


@pytest.mark.parametrize(
    ("check", "name", "content"),
    [
        (unreadable, "conf/base.yml", "a: [1, 2"),
        (unreadable, "pyproject.toml", "description = 'O'Brien'"),
        (unreadable, "data.json", "{'a': 1}"),
        (unreadable, "src/a.py", "def f(:"),
        (unreadable, "src/a.sql", "SELECT a FROM (SELECT b"),
        (unreadable, "src/b.sql", "SELEKT a FROM b"),
        (leftovers, "README.md", "# {{ cookiecutter.project_name }}"),
        (leftovers, "Makefile", "{% if a %}"),
        (leftovers, "src/{{ a }}.txt", "text"),
        (broken_links, "README.md", "[runbook](docs/runbook.md)"),
        (lint, "a.py", "import os\n"),
        (lint, "b.py", "x = {  'a':1 }\n"),
        (empty, "src/__init__.py", "\n"),
        (shell, "bin/run", "#!/bin/sh\nrm -rf $1/*\n"),
        (shell, "run.sh", "if true; then\n"),
        (wrong_modes, "bin/run", "#!/bin/sh\n"),
        (traces_of_flights, "README.md", "For every Carrier"),
        (traces_of_flights, "weather.csv", "a"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_bad_file_is_found(
    tmp_path: Path, check: Callable[[Path], list[str]], name: str, content: str
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    assert check(tmp_path)


def test_an_empty_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "docs" / "pictures").mkdir(parents=True)
    assert empty(tmp_path) == ["docs/pictures"]


def test_what_git_would_not_commit_is_found(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("/data/\n")
    assert ignored(tmp_path, ["data/a.csv", "lake/a.csv", "src/data/a.csv"]) == ["data/a.csv"]
