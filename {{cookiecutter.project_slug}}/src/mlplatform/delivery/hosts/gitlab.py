"""GitLab, by the API that the job's own variables name: gitlab.com or self-managed."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from mlplatform.delivery.api import PlatformError, call

OUTPUTS = Path("build/outputs.env")  # a dotenv report: GitLab gives it to the jobs that follow
MARK = "<!-- integration test -->"
# A job's own token can do neither; each of these is given to one environment (docs/ci-cd.md says how).
RELEASE, COMMENT = "RELEASE_TOKEN", "COMMENT_TOKEN"


def checks_passed(commit: str, branch: str) -> bool:
    """Whether the newest pipeline of `branch` for this commit, after its merge, succeeded."""
    query = urlencode({"sha": commit, "ref": branch, "source": "push", "per_page": 100})
    found = [pipeline for pipeline in _api(RELEASE, "GET", f"/pipelines?{query}") if pipeline["sha"] == commit]
    return bool(found) and max(found, key=lambda pipeline: pipeline["id"])["status"] == "success"


def tag(name: str, commit: str) -> None:
    _api(RELEASE, "POST", f"/repository/tags?{urlencode({'tag_name': name, 'ref': commit})}")


def approval() -> tuple[str, str]:
    """Who started this manual job, and why, if they gave it a variable REASON.

    Raises PlatformError where no person did: the job is the gate.
    """
    if os.environ.get("CI_JOB_MANUAL") != "true":
        raise PlatformError("nobody has started this job by hand: it needs `when: manual`")
    return _variable("GITLAB_USER_LOGIN"), os.environ.get("REASON") or "approved on GitLab"


def disk_is_lost() -> bool:
    """Whether this runner's disk is gone after the job. STORAGE may be a volume of a runner of one's own."""
    gitlabs = "saas-" in os.environ.get("CI_RUNNER_TAGS", "")
    return gitlabs or (os.environ.get("CI_DISPOSABLE_ENVIRONMENT") == "true" and not os.environ.get("STORAGE"))


def comment(text: str) -> None:
    """Post `text` on the merge request that the job runs for, in place of what was posted before."""
    notes = f"/merge_requests/{_variable('CI_MERGE_REQUEST_IID')}/notes"
    body = {"body": f"{MARK}\n{text}"}
    for posted in _api(COMMENT, "GET", f"{notes}?sort=asc&per_page=100"):
        if posted["body"].startswith(MARK):
            _api(COMMENT, "PUT", f"{notes}/{posted['id']}", body)
            return
    _api(COMMENT, "POST", notes, body)


def output(name: str, value: str) -> None:
    """Hand a value to the jobs that follow, as a variable in capitals."""
    OUTPUTS.parent.mkdir(parents=True, exist_ok=True)
    with OUTPUTS.open("a", encoding="utf-8") as file:
        file.write(f"{name.upper()}={value}\n")


def _api(token: str, method: str, path: str, body: object = None) -> Any:
    if not os.environ.get(token):
        raise PlatformError(f"{token} is not set: make it a variable of this project, as docs/ci-cd.md says")
    url = f"{_variable('CI_API_V4_URL')}/projects/{_variable('CI_PROJECT_ID')}{path}"
    return call(method, url, {"PRIVATE-TOKEN": os.environ[token]}, body)


def _variable(name: str) -> str:
    if not os.environ.get(name):
        raise PlatformError(f"{name} is not set: this command belongs into a job of GitLab CI")
    return os.environ[name]
