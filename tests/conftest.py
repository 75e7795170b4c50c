"""Renders that tests share: each set of answers is rendered once per session. Nobody writes into them."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from bake import bake, export
from matrix import ROWS, Answers

# These need the packages of a render: make test-platform runs the one, the other is put into renders.
collect_ignore = ["foreign", "platform"]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template as a user would get it."""
    return export(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="session")
def render(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """render(**answers): the folder of a repository rendered with these answers."""

    @cache
    def render(**answers: str) -> Path:
        return bake(template, tmp_path_factory.mktemp("render"), answers)

    return render


@pytest.fixture(params=ROWS.values(), ids=list(ROWS), scope="session")
def row(request: pytest.FixtureRequest) -> Answers:
    """One row of the matrix of choices."""
    answers: Answers = request.param
    return answers


@pytest.fixture(scope="session")
def variant(row: Answers, render: Callable[..., Path]) -> Path:
    """A repository rendered with the choices of the row."""
    return render(**row)
