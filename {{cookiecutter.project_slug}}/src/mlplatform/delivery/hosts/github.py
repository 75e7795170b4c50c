"""GitHub, by the API that the job's own variables name: github.com, GitHub Enterprise Cloud or Server."""

import json
import os
from pathlib import Path
from typing import Any

from mlplatform.delivery.api import PlatformError, call
from mlplatform.revision import tag_prefix

CI = "ci.yml"
APPROVALS = "production-model"  # the environment whose reviewers decide on models
REPORT = "integration test"


def checks_passed(commit: str, branch: str) -> bool:
    found = _api("GET", f"/actions/workflows/{_own(CI)}/runs?head_sha={commit}&branch={branch}&event=push&per_page=100")
    runs = [run for run in found["workflow_runs"] if run["head_sha"] == commit]
    return bool(runs) and max(runs, key=lambda run: run["run_number"])["conclusion"] == "success"


def tag(name: str, commit: str) -> None:
    _api("POST", "/git/refs", {"ref": f"refs/tags/{name}", "sha": commit})


def approval() -> tuple[str, str]:
    """Who let this run pass the environment's gate, and what they wrote.

    Raises PlatformError where nobody did: an environment without reviewers lets every job pass.
    """
    gate = _own(APPROVALS)
    for review in _api("GET", f"/actions/runs/{_variable('GITHUB_RUN_ID')}/approvals"):
        environments = {environment["name"] for environment in review["environments"]}
        if review["state"] == "approved" and gate in environments:
            return review["user"]["login"], review["comment"] or "approved on GitHub"
    raise PlatformError(f"nobody has approved this run: give the environment {gate} required reviewers")


def disk_is_lost() -> bool:
    """Whether this runner's disk is gone after the job: GitHub's own runners are machines for one job."""
    return os.environ.get("RUNNER_ENVIRONMENT") == "github-hosted"


def comment(text: str) -> None:
    """Post `text` on the pull request that the job runs for, in place of what was posted before."""
    event = json.loads(Path(_variable("GITHUB_EVENT_PATH")).read_text(encoding="utf-8"))
    thread = f"/issues/{event['pull_request']['number']}/comments"
    mark = f"<!-- {_own(REPORT)} -->"
    body = {"body": f"{mark}\n{text}"}
    for posted in _api("GET", f"{thread}?per_page=100"):
        if posted["body"].startswith(mark):
            _api("PATCH", f"/issues/comments/{posted['id']}", body)
            return
    _api("POST", thread, body)


def output(name: str, value: str) -> None:
    with Path(_variable("GITHUB_OUTPUT")).open("a", encoding="utf-8") as file:
        file.write(f"{name}={value}\n")


def _own(name: str) -> str:
    """A name as `make workflows` writes it: with the folder of the repository before it, if the project is in one."""
    return f"{tag_prefix(Path.cwd())}{name}".replace("/", "-")


def _api(method: str, path: str, body: object = None) -> Any:
    url = f"{_variable('GITHUB_API_URL')}/repos/{_variable('GITHUB_REPOSITORY')}{path}"
    headers = {"Authorization": f"Bearer {_variable('GITHUB_TOKEN')}", "Accept": "application/vnd.github+json"}
    return call(method, url, headers, body)


def _variable(name: str) -> str:
    if not os.environ.get(name):
        raise PlatformError(f"{name} is not set: this command belongs into a job of GitHub Actions")
    return os.environ[name]
