"""The stand-in of the platforms' APIs answers as they would, by what they publish; our calls are theirs."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bake import ROOT
from platform_api import Platform, serve
from published import problems
from synthetic import commit, git, write

pytestmark = pytest.mark.ci

JOB = {
    "github": {
        **{"GITHUB_API_URL": "{url}", "GITHUB_REPOSITORY": "acme/forecasts", "GITHUB_TOKEN": "token"},
        **{"GITHUB_RUN_ID": "1", "GITHUB_EVENT_PATH": "{event}"},
    },
    "gitlab": {
        **{"CI_API_V4_URL": "{url}", "CI_PROJECT_ID": "1", "CI_MERGE_REQUEST_IID": "7"},
        **{"RELEASE_TOKEN": "token", "COMMENT_TOKEN": "token"},
        **{"CI_JOB_MANUAL": "true", "GITLAB_USER_LOGIN": "ada"},
    },
    "azure_devops": {
        **{
            "SYSTEM_COLLECTIONURI": "{url}/",
            "SYSTEM_TEAMPROJECTID": "forecasts",
            "SYSTEM_ACCESSTOKEN": "token",
        },
        **{"BUILD_REPOSITORY_ID": "1", "BUILD_BUILDID": "1", "SYSTEM_STAGENAME": "approve"},
        **{"SYSTEM_PULLREQUEST_PULLREQUESTID": "7"},
    },
}
RUNS, REFS = "/repos/acme/forecasts/actions/workflows/ci.yml/runs", "/repos/acme/forecasts/git/refs"
TAGS, NOTES = "/projects/1/repository/tags", "/projects/1/merge_requests/7/notes"
BUILDS, THREADS = "/x/_apis/build/builds", "/x/_apis/git/repositories/1/pullRequests/7/threads"
APPROVALS, VERSION = "/x/_apis/pipelines/approvals", {"api-version": "7.1"}
WRONG = {
    "a path of GitHub": (("GET", "/repos/acme/forecasts/runs", {}, None, {}), "there is no such call"),
    "a method of GitHub": (("PUT", RUNS, {}, None, {}), "there is no such call"),
    "a parameter of GitHub": (
        ("GET", RUNS, {"sha": "1"}, None, {"workflow_runs": []}),
        "query sha is not known",
    ),
    "what GitHub asks for": (("POST", REFS, {}, {"ref": "refs/tags/v1"}, {}), "body: sha is missing"),
    "an answer of GitHub": (
        ("GET", RUNS, {}, None, {"workflow_runs": [{"number": 1}]}),
        "answer.workflow_runs[]: number is not known",
    ),
    "a type of GitHub": (
        ("GET", RUNS, {}, None, {"workflow_runs": [{"run_number": "1"}]}),
        "answer.workflow_runs[].run_number '1' is no integer",
    ),
    "a path of GitLab": (("GET", "/projects/1/runs", {}, None, []), "there is no such call"),
    "a parameter of GitLab": (
        ("GET", "/projects/1/pipelines", {"commit": "1"}, None, []),
        "query commit is not known",
    ),
    "what GitLab asks for": (("POST", TAGS, {"tag_name": "v1"}, None, {}), "attribute ref is missing"),
    "an answer of GitLab": (("GET", NOTES, {}, None, [{"text": ""}]), "answer: text is not known"),
    "a path of Azure DevOps": (("GET", "/x/_apis/builds", VERSION, None, {}), "there is no such call"),
    "a parameter of Azure DevOps": (
        ("GET", BUILDS, VERSION | {"branch": "main"}, None, {"value": []}),
        "query branch is not known",
    ),
    "what Azure DevOps asks for": (("GET", BUILDS, {}, None, {"value": []}), "query api-version is missing"),
    "a body of Azure DevOps": (("POST", THREADS, VERSION, {"text": ""}, {}), "body: text is not known"),
    "an answer of Azure DevOps": (
        ("GET", BUILDS, VERSION, None, {"value": [{"result": "success"}]}),
        "answer.result 'success' is no BuildResult",
    ),
    "an approval of Azure DevOps": (
        ("GET", APPROVALS, VERSION | {"approvalIds": "1"}, None, {"value": [{"steps": [{"by": "ada"}]}]}),
        "answer.steps: by is not known",
    ),
}


@pytest.mark.parametrize(("call", "said"), WRONG.values(), ids=list(WRONG))
def test_what_a_platform_does_not_know_is_found(call: Any, said: str) -> None:
    assert problems(*call) == [f"{call[0]} {call[1]}: {said}"]


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """A platform that keeps a repository with one commit, whose checks passed."""
    origin = tmp_path / "origin"
    origin.mkdir()
    git(origin, "init", "--quiet", "--initial-branch=main")
    write(origin, {"one.txt": "one\n"})
    commit(origin, "Begin")
    served = Platform(origin)
    served.approver = "ada"
    served.ci_ended(git(origin, "rev-parse", "HEAD"), passed=True)
    with serve(served):
        yield served


@pytest.mark.parametrize("name", JOB)
def test_every_call_of_a_host_is_known_to_its_platform_and_so_is_the_answer(
    name: str, platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "{{cookiecutter.project_slug}}" / "src"))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    monkeypatch.chdir(tmp_path)
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": 7}}))
    for variable, value in JOB[name].items():
        monkeypatch.setenv(variable, value.format(url=platform.url, event=event))
    host = importlib.import_module(f"mlplatform.delivery.hosts.{name}")
    head = git(platform.origin, "rev-parse", "HEAD")
    assert host.checks_passed(head, "main")
    assert not host.checks_passed("0" * 40, "main")
    host.tag("v0.1.0", head)
    assert git(platform.origin, "tag") == "v0.1.0"
    assert host.approval()[0] == "ada"
    host.comment("first")
    host.comment("second")
    assert platform.comments[-1].endswith("second")


def test_the_stand_in_refuses_what_the_platform_does_not_know(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a job that calls it fails, and the workflow's test with it."""
    monkeypatch.syspath_prepend(str(ROOT / "{{cookiecutter.project_slug}}" / "src"))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    api = importlib.import_module("mlplatform.delivery.api")
    with pytest.raises(api.PlatformError, match=r"400 .*query sha is not known"):
        api.call("GET", f"{platform.url}{RUNS}?sha=1&event=push", {"Authorization": "Bearer token"})
