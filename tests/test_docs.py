"""The pages in docs/ and the README speak of what is there: files, prompts, targets of make."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from bake import PROMPTS, ROOT

# What stands between backticks and looks like a path: `conf/dev.yml`, `registry/`, `src/<package>/usecase/`.
PATH = re.compile(r"`((?:[\w.<>{}-]+/)+(?:[\w.-]+)?)`")
MADE = ("build/", "data/")
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]


def missing_paths(text: str, project: Path) -> list[str]:
    """Return the paths in `text` that are neither in this repository nor in a rendered one."""
    package = next((project / "src").iterdir())
    return [
        name
        for name in PATH.findall(text)
        if not name.startswith(MADE)
        and not any(
            (folder / name.replace("<package>", package.name)).exists() for folder in (ROOT, project, package)
        )
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_it_names_is_there(page: Path, render: Callable[..., Path]) -> None:
    assert missing_paths(page.read_text(), render()) == []


def test_a_path_that_is_not_there_is_found(render: Callable[..., Path]) -> None:
    assert missing_paths("see `pipelines/train.py` and `pipelines/guess.py`", render()) == [
        "pipelines/guess.py"
    ]


def test_the_readme_names_every_prompt() -> None:
    named = re.findall(r"^\| `(\w+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert named == [name for name in PROMPTS if not name.startswith("_")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_target_of_make_that_it_names_is_there(page: Path, render: Callable[..., Path]) -> None:
    known = re.compile(r"^([a-z-]+):", re.MULTILINE)
    targets = {
        name for folder in (ROOT, render()) for name in known.findall((folder / "Makefile").read_text())
    }
    named = re.findall(r"(?:`|^    )make ([a-z][a-z-]*)", page.read_text(), re.MULTILINE)
    assert set(named) - targets == set()
