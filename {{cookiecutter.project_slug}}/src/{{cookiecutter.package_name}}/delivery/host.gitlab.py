"""GitLab, by the API that the job's own variables name: gitlab.com or self-managed."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from .api import PlatformError, call

WORKFLOWS = ".gitlab-ci.yml"
OUTPUTS = Path("build/outputs.env")  # a dotenv report: GitLab gives it to the jobs that follow


def checks_passed(commit: str, branch: str) -> bool:
    """Whether the newest pipeline of `branch` for this commit, after its merge, succeeded."""
    query = urlencode({"sha": commit, "ref": branch, "source": "push", "per_page": 100})
    found = [pipeline for pipeline in _api("GET", f"/pipelines?{query}") if pipeline["sha"] == commit]
    return bool(found) and max(found, key=lambda pipeline: pipeline["id"])["status"] == "success"


def tag(name: str, commit: str) -> None:
    """Tag the commit in the repository on the platform."""
    _api("POST", f"/repository/tags?{urlencode({'tag_name': name, 'ref': commit})}")


def approval() -> tuple[str, str]:
    """Who started this manual job, and why, if they gave it a variable REASON.

    Raises PlatformError where no person did: the job is the gate.
    """
    if os.environ.get("CI_JOB_MANUAL") != "true":
        raise PlatformError("nobody has started this job by hand: it needs `when: manual`")
    return _variable("GITLAB_USER_LOGIN"), os.environ.get("REASON") or "approved on GitLab"


def output(name: str, value: str) -> None:
    """Hand a value to the jobs that follow, as a variable in capitals."""
    OUTPUTS.parent.mkdir(parents=True, exist_ok=True)
    with OUTPUTS.open("a", encoding="utf-8") as file:
        file.write(f"{name.upper()}={value}\n")


def _api(method: str, path: str) -> Any:
    url = f"{_variable('CI_API_V4_URL')}/projects/{_variable('CI_PROJECT_ID')}{path}"
    return call(method, url, {"PRIVATE-TOKEN": _variable("RELEASE_TOKEN")})


def _variable(name: str) -> str:
    if not os.environ.get(name):
        raise PlatformError(f"{name} is not set: this command belongs into a job of GitLab CI")
    return os.environ[name]
