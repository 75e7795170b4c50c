"""Azure DevOps, by the API that the job's own variables name: Services or Server."""

import os
from typing import Any

from mlplatform.delivery.api import PlatformError, call

CI = "ci"  # the name of the pipeline that was made from azure-pipelines/ci.yml
VERSION = "api-version=7.1"
NOWHERE = "0" * 40


def checks_passed(commit: str, branch: str) -> bool:
    path = f"/_apis/build/builds?branchName=refs/heads/{branch}&statusFilter=completed&$top=1000&{VERSION}"
    builds = [
        build
        for build in _api("GET", path)["value"]
        if build["sourceVersion"] == commit and build["definition"]["name"] == CI
    ]
    return bool(builds) and max(builds, key=lambda build: build["id"])["result"] == "succeeded"


def tag(name: str, commit: str) -> None:
    update = {"name": f"refs/tags/{name}", "oldObjectId": NOWHERE, "newObjectId": commit}
    answer = _api("POST", f"/_apis/git/repositories/{_variable('BUILD_REPOSITORY_ID')}/refs?{VERSION}", [update])
    if not answer["value"][0]["success"]:
        raise PlatformError(f"{name} was not made: {answer['value'][0].get('updateStatus')}")


def approval() -> tuple[str, str]:
    """Who let this stage pass an environment's approval check, and what they wrote.

    Raises PlatformError where nobody did: an environment without checks lets every job pass. An approval of another
    stage, such as that of a release, says nothing about the model.
    """
    timeline = _api("GET", f"/_apis/build/builds/{_variable('BUILD_BUILDID')}/timeline?{VERSION}")
    records = {record["id"]: record for record in timeline["records"]}
    passed = [
        record["id"]
        for record in records.values()
        if record["type"] == "Checkpoint.Approval"
        and record["result"] == "succeeded"
        and _stage(record, records) == _variable("SYSTEM_STAGENAME")
    ]
    if passed:
        query = f"approvalIds={','.join(passed)}&$expand=steps&{VERSION}"
        for granted in _api("GET", f"/_apis/pipelines/approvals?{query}")["value"]:
            for step in granted["steps"]:
                if step["status"] == "approved":
                    return step["actualApprover"]["displayName"], step.get("comment") or "approved on Azure DevOps"
    raise PlatformError("nobody has approved this stage: give the environment production-model an approval check")


def _stage(record: dict[str, Any], records: dict[str, dict[str, Any]]) -> str:
    """The name of the stage that a record of a run's timeline belongs to."""
    while record["type"] != "Stage":
        record = records[record["parentId"]]
    return str(record["identifier"])


def disk_is_lost() -> bool:
    """Whether this agent's disk is gone after the job: Microsoft's own agents are machines for one job."""
    return os.environ.get("AGENT_ISSELFHOSTED") == "0"


def comment(text: str) -> None:
    """Post `text` on the pull request that the job runs for."""
    thread = {"comments": [{"parentCommentId": 0, "content": text, "commentType": 1}], "status": "closed"}
    place = f"{_variable('BUILD_REPOSITORY_ID')}/pullRequests/{_variable('SYSTEM_PULLREQUEST_PULLREQUESTID')}"
    _api("POST", f"/_apis/git/repositories/{place}/threads?{VERSION}", thread)


def output(name: str, value: str) -> None:
    """Hand a value to the jobs that follow, as an output variable of the step."""
    print(f"##vso[task.setvariable variable={name};isOutput=true]{value}")


def _api(method: str, path: str, body: object = None) -> Any:
    url = f"{_variable('SYSTEM_COLLECTIONURI')}{_variable('SYSTEM_TEAMPROJECTID')}{path}"
    return call(method, url, {"Authorization": f"Bearer {_variable('SYSTEM_ACCESSTOKEN')}"}, body)


def _variable(name: str) -> str:
    if not os.environ.get(name):
        raise PlatformError(f"{name} is not set: this command belongs into a job of Azure Pipelines")
    return os.environ[name]
