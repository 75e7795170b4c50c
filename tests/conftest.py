"""Renders that tests share: each set of answers is rendered once per session. Nobody writes into them."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from bake import PROMPTS, bake, export

# Every choice of every option, each beside defaults; the first choices are the defaults themselves.
VARIANTS: dict[str, dict[str, str]] = {"defaults": {}} | {
    f"{name}={choice}": {name: choice}
    for name, choices in PROMPTS.items()
    if isinstance(choices, list) and not name.startswith("_")
    for choice in choices[1:]
}


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


@pytest.fixture(params=VARIANTS.values(), ids=list(VARIANTS), scope="session")
def answers(request: pytest.FixtureRequest) -> dict[str, str]:
    """No answers, and each other choice of each option: what `variant` was rendered with."""
    return dict(request.param)


@pytest.fixture(scope="session")
def variant(answers: dict[str, str], render: Callable[..., Path]) -> Path:
    """A repository rendered with the defaults, and with each other choice of each option."""
    return render(**answers)
