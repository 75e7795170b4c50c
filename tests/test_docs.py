"""The pages in docs/ and the README speak of what is there: files, prompts, targets of make."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from bake import PROMPTS, ROOT, TEMPLATE

# What stands between backticks and looks like a path: `conf/dev.yml`, `registry/`, `src/<package>/sql/`.
PATH = re.compile(r"`((?:[\w.<>{}-]+/)+(?:[\w.-]+)?)`")
MADE = (".venv/", "build/", "data/")
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
TARGETS = re.compile(r"^([a-z][a-z -]*):", re.MULTILINE)
Render = Callable[..., Path]


def missing_paths(text: str, project: Path, *folders: Path) -> list[str]:
    """Return the paths in `text` that are neither in a rendered repository nor in one of the folders."""
    source = project / "src"
    (package,) = (path for path in source.iterdir() if path.name != "mlplatform")
    return [
        name
        for name in PATH.findall(text)
        if not name.startswith(MADE)
        and not any(
            (folder / name.replace("<package>", package.name)).exists()
            for folder in (*folders, project, source, package, source / "mlplatform")
        )
    ]


def missing_targets(text: str, *folders: Path) -> set[str]:
    """Return the targets of make in `text` that no Makefile of the folders has."""
    rules = [rule for folder in folders for rule in TARGETS.findall((folder / "Makefile").read_text())]
    lines = re.findall(r"(?:`|^    )make ((?:[a-z][a-z-]* *)+)", text, re.MULTILINE)
    return {name for line in lines for name in line.split()} - {
        name for rule in rules for name in rule.split()
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_and_target_that_a_page_names_is_there(page: Path, render: Render) -> None:
    every = render(deployment_pattern="deploy_models", inference="all", compute="spark")
    there = render(compute="databricks", cloud="aws")
    assert missing_paths(page.read_text(), every, there, ROOT, ROOT / TEMPLATE) == []
    assert missing_targets(page.read_text(), every, there, ROOT) == set()


def test_a_path_and_a_target_that_are_not_there_are_found(render: Render) -> None:
    text = "see `pipelines/train.py` and `pipelines/guess.py`, `make train guess` and `make ingest`"
    assert missing_paths(text, render()) == ["pipelines/guess.py"]
    assert missing_targets(text, render()) == {"guess"}


def test_rendered_pages_name_only_what_is_rendered(variant: Path) -> None:
    for page in (*variant.glob("*.md"), *variant.glob("docs/*.md")):
        assert missing_paths(page.read_text(), variant) == [], page.name
        assert missing_targets(page.read_text(), variant) == set(), page.name


def test_the_readme_names_every_prompt() -> None:
    named = re.findall(r"^\| `(\w+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert named == [name for name in PROMPTS if not name.startswith("_")]


def test_messages_and_links_name_headings_that_are_there() -> None:
    """`docs/<page>.md, <heading>` in the platform's messages, and links within a page."""
    pages = {page.name: page.read_text() for page in (ROOT / TEMPLATE).rglob("*.md")}
    heading = re.compile(r"^(?:#+ |\*\*)(.+?)(?:\.\*\*.*)?$", re.MULTILINE)
    headings = {name: set(heading.findall(text)) for name, text in pages.items()}
    named = [
        found
        for path in (ROOT / TEMPLATE / "src").rglob("*.py")
        for found in re.findall(r"docs/([\w-]+\.md), ([A-Z][\w ]+)", path.read_text())
    ]
    assert len(named) > 3
    assert [one for one in named if one[1] not in headings[one[0]]] == []
    for name, text in pages.items():
        anchors = {re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings[name]}
        assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= anchors, name
