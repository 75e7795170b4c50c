"""Killed anywhere, an upgrade leaves the project as before, as after, or where abort brings it back."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from merge import plan
from repository import Plan, Project, Scratch
from synthetic import ENVIRONMENT, Template, commit, git, state, write

LINES = "".join(f"line {number}\n" for number in range(20))
# A git that kills its whole process group, the updater with it, before or after the nth call.
KILLER = """#!/bin/sh
echo >> "$COUNT"
n=$(wc -l < "$COUNT")
[ "$WHEN" = before ] && [ "$n" -ge "$CALL" ] && kill -9 0
"$GIT" "$@"
code=$?
[ "$n" -ge "$CALL" ] && kill -9 0
exit $code
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Two releases, the second of which adds, changes, deletes and moves."""
    template = Template(tmp_path_factory.mktemp("killed") / "template")
    files = {f"folder-{n}/file.txt": f"{n}\n{LINES}" for n in range(8)}
    template.release("0.1.0", {**files, "both.txt": LINES, "gone.txt": "gone\n"})
    changed: dict[str, str | bytes | None] = {name: text + "more\n" for name, text in files.items()}
    changed |= {"folder-0/file.txt": None, "new/folder/file.txt": "new\n", "gone.txt": None}
    template.release("0.2.0", {**changed, "both.txt": LINES.replace("line 3\n", "line three\n")})
    return template


@pytest.fixture(scope="module")
def project(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose upgrade will conflict in two files."""
    project = template.project(tmp_path_factory.mktemp("project"), version="0.1.0")
    write(project, {"both.txt": LINES.replace("line 3\n", "my line\n"), "gone.txt": "gone, but mine\n"})
    commit(project, "Edits")
    return project


def recover(project: Path, template: Template, before: dict[str, object], after: dict[str, object]) -> str:
    """Say how the project was found, and bring it back if it is neither as before nor as after."""
    found = state(project)
    if worth(found) == worth(before):
        return "as before"
    if worth(found) == worth(after):
        return "as after"
    refused = template.upgrade(project)
    assert (refused.code, "under way" in refused.output) == (2, True), refused.output
    # Git's own lock is left where git itself was killed while it wrote; git says so, and what to do.
    (project / ".git" / "index.lock").unlink(missing_ok=True)
    outcome = template.upgrade(project, "--abort")
    assert outcome.code == 0, outcome.output
    assert worth(state(project)) == worth(before)
    return "brought back"


def worth(found: dict[str, object]) -> dict[str, object]:
    """Leave out the references that the updater keeps: they hold nothing of the owner's."""
    return {name: value for name, value in found.items() if name != "references"}


@pytest.fixture(scope="module")
def after(template: Template, project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    copy = Path(shutil.copytree(project, tmp_path_factory.mktemp("after") / "project"))
    assert template.upgrade(copy).code == 1
    return state(copy)


@pytest.fixture(scope="module")
def planned(
    template: Template, project: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Plan, Scratch]]:
    work = tmp_path_factory.mktemp("plan")
    for name, version in (("old", "0.1.0"), ("new", "0.2.0")):
        (work / name).mkdir()
        template.render(work / name, version=version)
    scratch = Scratch(work / "scratch", Project(project))
    files = Project(project).files()
    yield plan(scratch, files, work / "old/tiny", work / "new/tiny", "template-v0.2.0", [], []), scratch


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the child runs git and ends
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("action", ["put", "undo"])
def test_killed_at_any_call_of_git_while_it_writes(
    template: Template,
    project: Path,
    planned: tuple[Plan, Scratch],
    after: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    action: str,
    when: str,
) -> None:
    made, scratch = planned
    before = state(project)
    git_itself = shutil.which("git")
    assert git_itself
    write(tmp_path, {"bin/git": KILLER})
    (tmp_path / "bin" / "git").chmod(0o755)
    found = []
    for call in range(1, 40):
        copy = Path(shutil.copytree(project, tmp_path / f"project-{call}"))
        if action == "undo":
            Project(copy).put(made, scratch.folder)
        monkeypatch.setenv("COUNT", str(tmp_path / f"count-{call}"))
        monkeypatch.setenv("CALL", str(call))
        monkeypatch.setenv("WHEN", when)
        monkeypatch.setenv("GIT", git_itself)
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            os.environ["PATH"] = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
            work = Project(copy)
            work.put(made, scratch.folder) if action == "put" else work.undo()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            break
        found.append(recover(copy, template, before, after))
    assert len(found) >= 8
    assert set(found) == {"as before", "as after", "brought back"}


def test_killed_at_random_times(
    template: Template, project: Path, after: dict[str, object], tmp_path: Path
) -> None:
    before = state(project)
    command = [sys.executable, str(template.folder / "upgrade"), "update"]
    started = time.monotonic()
    copy = Path(shutil.copytree(project, tmp_path / "whole"))
    subprocess.run(command, cwd=copy, env=ENVIRONMENT, capture_output=True, stdin=subprocess.DEVNULL)
    whole = time.monotonic() - started
    chance = random.Random(2013)
    for number in range(4):
        copy = Path(shutil.copytree(project, tmp_path / f"project-{number}"))
        with subprocess.Popen(
            command,
            cwd=copy,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                process.wait(timeout=whole * chance.uniform(0.3, 1.0))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        if recover(copy, template, before, after) != "as after":
            assert template.upgrade(copy).code == 1
            assert worth(state(copy)) == worth(after)
        git(copy, "fsck", "--strict")
