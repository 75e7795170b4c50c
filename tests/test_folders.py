"""Several projects in one repository, each a folder: they do not meet."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from bake import bake
from synthetic import ENVIRONMENT, commit, git

FOLDERS = ("one", "teams/two")


@pytest.fixture(scope="module")
def repository(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two renders with the same answers, and the workflows that `make workflows` made of theirs."""
    root = tmp_path_factory.mktemp("repository")
    git(root, "init", "--quiet", "--initial-branch=main")
    for folder in FOLDERS:
        rendered = bake(template, root / "rendered", {"sample": "none"})
        (root / folder).parent.mkdir(exist_ok=True)
        rendered.rename(root / folder)
    commit(root, "Begin")
    for folder in FOLDERS:
        subprocess.run(["make", "workflows"], cwd=root / folder, env=ENVIRONMENT, check=True)
    return root


def workflows(root: Path, folder: str) -> dict[str, Any]:
    """By the name that they have in the folder."""
    own = folder.replace("/", "-")
    found = {name.name: name for name in (root / ".github" / "workflows").glob(f"{own}-*.yml")}
    return {name.removeprefix(f"{own}-"): yaml.safe_load(path.read_text()) for name, path in found.items()}


def values(node: Any, name: str) -> Iterator[Any]:
    """Everything that a workflow says under `name`, at any depth."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if key == name:
            yield value
        if isinstance(value, dict | list):
            yield from values(value, name)


def test_every_workflow_is_where_github_reads_it(repository: Path) -> None:
    for folder in FOLDERS:
        there = {path.name for path in (repository / folder / ".github" / "workflows").glob("*.yml")}
        assert workflows(repository, folder).keys() == there


def test_workflows_of_two_projects_share_no_name(repository: Path) -> None:
    """Nor a group in which jobs wait for each other, an environment, an event, or a check's name."""
    one, two = (workflows(repository, folder) for folder in FOLDERS)
    for what in ("name", "group", "environment", "types"):
        of = [
            {str(text) for flow in flows.values() for text in values(without_steps(flow), what)}
            for flows in (one, two)
        ]
        assert of[0]
        assert of[0] & of[1] == set(), what


def without_steps(flow: dict[str, Any]) -> dict[str, Any]:
    """What counts outside of the workflow's own run: names of steps and artifacts do not."""
    jobs = {name: {k: v for k, v in job.items() if k != "steps"} for name, job in flow["jobs"].items()}
    return flow | {"jobs": jobs}


def test_what_runs_and_what_is_kept_is_the_folders(repository: Path) -> None:
    for folder in FOLDERS:
        own = folder.replace("/", "-")
        for flow in workflows(repository, folder).values():
            assert flow["defaults"] == {"run": {"working-directory": folder}}
            assert all(path.startswith(f"{folder}/build") for path in values(flow, "path"))
            for used in values(flow["jobs"], "uses"):
                local = used.removeprefix("./")
                assert local == used or (repository / local).name.startswith(f"{own}-")
                assert local == used or (repository / local).is_file()
        deploy = (repository / ".github" / "workflows" / f"{own}-deploy.yml").read_text()
        assert f"ref: refs/tags/{folder}/${{{{ inputs.version }}}}" in deploy


def test_the_workflows_say_what_they_are_made_of(repository: Path) -> None:
    text = (repository / ".github" / "workflows" / "one-ci.yml").read_text()
    assert re.match(
        "# Made by `make workflows` in one: change one/.github/workflows/ci.yml, and make it again.", text
    )


def test_a_project_in_the_root_keeps_its_workflows(template: Path, tmp_path: Path) -> None:
    project = bake(template, tmp_path, {"sample": "none"})
    git(project, "init", "--quiet")
    done = subprocess.run(["make", "workflows"], cwd=project, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "this is the root of the repository" in done.stderr
