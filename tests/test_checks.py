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
    out_of_place,
    shell,
    traces_of_flights,
    unreadable,
    wrong_modes,
)
from post_gen_project import Option


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


PLACED = {
    "src/p/serve/app.py": "x = 1",
    "model.py": "x = 1",
    "constraints.txt": "fast_api==1\n",
    "pyproject.toml": '[project]\ndependencies = ["fast-api>=1"]\n',
    "conf/base.yml": "serve: {port: 1}\n",
}


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("src/p/serve/app.py", "", "path src/<package>/serve/app.py is missing"),
        ("model.py", "", "path model.py is missing"),
        ("model.online.py", "x = 1", "path model.online.py is there"),
        ("batch.sql", "SELECT 1", "path batch.sql is there"),
        ("constraints.txt", "pandas==3\n", "pin fast-api is missing"),
        ("constraints.txt", "fast_api==1\nSpark==4\n", "pin spark is there"),
        ("pyproject.toml", "[project]\n", "dependency fast-api is missing"),
        ("conf/base.yml", "serve: {}\n", "setting serve.port is missing"),
        ("conf/dev.yml", "batch: 1\n", "setting batch is there"),
    ],
)
def test_what_is_out_of_place_is_found(tmp_path: Path, name: str, content: str, found: str) -> None:
    online, batch = ("online",), ("batch",)
    table = {
        "inference": Option(
            choices=("batch", "online"),
            variants=("model.py",),
            paths={"src/<package>/serve": online, "batch.sql": batch},
            dependencies={"fast-api": online, "spark": batch},
            settings={"serve.port": online, "batch": batch},
        ),
        "server": Option(choices=("own", "none"), paths={"src/<package>/serve/app.py": ("own",)}),
    }
    answers = {"inference": "online", "server": "own"}
    for path, text in PLACED.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert out_of_place(tmp_path, answers, table) == []
    if content:
        (tmp_path / name).write_text(content)
    else:
        (tmp_path / name).unlink()
    assert found in out_of_place(tmp_path, answers, table)
