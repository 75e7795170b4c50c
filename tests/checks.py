"""What can be said of any rendered repository by reading its files. Nothing here writes into it."""

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import sqlglot
import yaml
from bake import PROMPTS
from cookiecutter.generate import is_copy_only_path

# `{{` and `{%`; `${{ }}` belongs to workflow files of GitHub, `{{tasks.` and `{{job.` to jobs of Databricks.
JINJA = re.compile(r"(?<!\$)\{\{(?!(?:tasks|job)\.)|\{%")
LINK = re.compile(r"\]\(([^)#\s]+)")
SHELL = re.compile(rb"#!.*\b(ba|da|k)?sh\b")
TRACE = re.compile(
    r"flight|nycflights|air(port|line|craft)|carrier|tailnum|departures?\b|\barrivals?\b|(arr|dep)_delay"
    r"|weather|\b(EWR|JFK|LGA)\b",
    re.IGNORECASE,
)


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


def empty(project: Path) -> list[str]:
    """Return files without content, and folders without files."""
    return [
        path.relative_to(project).as_posix()
        for path in sorted(project.rglob("*"))
        if (path.is_dir() and not any(path.iterdir())) or (path.is_file() and not path.read_bytes().strip())
    ]


def shell(project: Path) -> list[str]:
    """Return what shellcheck has to say of the shell scripts."""
    scripts = [
        name for name, path in files(project) if name.endswith(".sh") or SHELL.match(path.read_bytes())
    ]
    if not scripts:
        return []
    command = [str(Path(sys.executable).with_name("shellcheck")), "--format=gcc", *scripts]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    return (done.stdout + done.stderr).splitlines()


def wrong_modes(project: Path) -> list[str]:
    """Return the scripts that cannot be run, and what can be run and is no script."""
    return [
        name
        for name, path in files(project)
        if path.read_bytes().startswith(b"#!") != os.access(path, os.X_OK)
    ]


def traces_of_flights(project: Path) -> list[str]:
    """Return where the sample of flights is spoken of."""
    found = []
    for name, path in files(project):
        lines = enumerate(path.read_text(errors="replace").splitlines(), start=1)
        found += [f"{name}:{number}: {line.strip()}" for number, line in lines if TRACE.search(line)]
        found += [name] if TRACE.search(name) else []
    return found


def ignored(project: Path, names: list[str]) -> list[str]:
    """Return those of `names` that .gitignore leaves out of commits, by git's own judgement."""
    with tempfile.TemporaryDirectory() as folder:
        git = ["git", f"--git-dir={folder}/.git", f"--work-tree={project}"]
        # Without what this machine's own settings may ignore.
        alone = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        subprocess.run([*git, "init", "--quiet"], cwd=project, env=alone, check=True)
        command = [*git, "check-ignore", "--stdin", "-z"]
        done = subprocess.run(
            command, cwd=project, env=alone, input="\0".join(names), capture_output=True, text=True
        )
    assert done.returncode in (0, 1), done.stderr  # 1: none of them
    return [name for name in done.stdout.split("\0") if name]


def dependencies(project: Path) -> set[str]:
    """Return the names of what pyproject.toml asks for, in whichever of its lists."""
    content = tomllib.loads((project / "pyproject.toml").read_text())
    lists = [content["project"].get("dependencies", []), *content.get("dependency-groups", {}).values()]
    lists += content["project"].get("optional-dependencies", {}).values()
    return {_name(item) for items in lists for item in items if isinstance(item, str)}


def pins(project: Path) -> set[str]:
    """Return the names that constraints.txt pins."""
    return {
        _name(line) for line in (project / "constraints.txt").read_text().splitlines() if line[:1] not in "#"
    }


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0].lower().replace("_", "-")


def settings(project: Path) -> set[str]:
    """Return every key in conf/*.yml, as `section.key.key`."""

    def keys(node: object, path: str = "") -> Iterator[str]:
        for name, value in node.items() if isinstance(node, dict) else ():
            yield f"{path}{name}"
            yield from keys(value, f"{path}{name}.")

    return {
        key for file in (project / "conf").glob("*.yml") for key in keys(yaml.safe_load(file.read_text()))
    }
