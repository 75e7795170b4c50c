"""What can be said of any rendered repository by reading its files."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import sqlglot
import yaml
from bake import PROMPTS
from cookiecutter.generate import is_copy_only_path

# `{{` and `{%`; `${{ }}` belongs to the workflow files of GitHub.
JINJA = re.compile(r"(?<!\$)\{\{|\{%")
LINK = re.compile(r"\]\(([^)#\s]+)")


def files(project: Path) -> Iterator[tuple[str, Path]]:
    """Yield each file's name in the repository, with its path."""
    for path in sorted(project.rglob("*")):
        if path.is_file():
            yield path.relative_to(project).as_posix(), path


def parse(name: str, text: str) -> None:
    """Raise an error of some kind if `text` is not what the ending of `name` promises."""
    match PurePosixPath(name).suffix:
        case ".json":
            json.loads(text)
        case ".py":
            ast.parse(text)
        case ".sql":
            _parse_sql(text, "duckdb" if name.endswith("/dialect.sql") else "spark")
        case ".toml":
            tomllib.loads(text)
        case ".yaml" | ".yml":
            list(yaml.safe_load_all(text))


def _parse_sql(text: str, dialect: str) -> None:
    for statement in sqlglot.parse(text, dialect=dialect):
        # What sqlglot does not know it keeps as an opaque command.
        if isinstance(statement, sqlglot.exp.Command):
            raise ValueError(f"not {dialect} SQL: {statement}")


def unreadable(project: Path) -> list[str]:
    """Return one line for each file that its own parser refuses."""
    found = []
    for name, path in files(project):
        try:
            parse(name, path.read_text(errors="replace"))
        except Exception as error:
            found.append(f"{name}: {error}")
    return found


def leftovers(project: Path) -> list[str]:
    """Return where template language is left in names, and in files that are not copied as they are."""
    found = []
    for name, path in files(project):
        if JINJA.search(name):
            found.append(name)
        if is_copy_only_path(name, {"cookiecutter": PROMPTS}) or b"\0" in path.read_bytes():
            continue
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if JINJA.search(line):
                found.append(f"{name}:{number}: {line.strip()}")
    return found


def broken_links(project: Path) -> list[str]:
    """Return the relative links in Markdown that lead nowhere."""
    return [
        f"{name}: {target}"
        for name, path in files(project)
        if path.suffix == ".md"
        for target in LINK.findall(path.read_text())
        if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists()
    ]


def lint(project: Path) -> list[str]:
    """Return what the linter and the formatter, set up as in the repository, have to say."""
    found = []
    for words in (["check", "--output-format=concise"], ["format", "--diff"]):
        command = [sys.executable, "-m", "ruff", *words, "--no-cache", "."]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True)
        if done.returncode:
            found += (done.stdout + done.stderr).splitlines()
    return found
