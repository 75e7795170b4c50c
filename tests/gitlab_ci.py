"""Run the GitLab pipeline of a repository under gitlab-ci-local; each job has a tree of its own."""

import json
import os
import re
import subprocess
from pathlib import Path

from bake import ROOT
from origin import Origin, Result, clean, machine

PROGRAM = ROOT / "build" / "npm" / "node_modules" / ".bin" / "gitlab-ci-local"
MERGE_REQUEST = {
    "CI_PIPELINE_SOURCE": "merge_request_event",
    "CI_MERGE_REQUEST_IID": "7",
    "CI_MERGE_REQUEST_PROJECT_ID": "1",
    "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "1",
}
OUTCOMES = {"PASS": "success", "FAIL": "failure", "WARN": "warning"}


def pipeline(
    origin: Origin,
    work: Path,
    *,
    only: str = "",
    manual: str = "",
    comment_token: str = "token",
    **variables: str,
) -> Result:
    """Run the pipeline at the origin's HEAD; the job `manual` is started by hand; or run jobs `only`."""
    work.mkdir(parents=True, exist_ok=True)
    clone = work / "clone"
    subprocess.run(["git", "clone", "--quiet", str(origin.folder), str(clone)], check=True)
    subprocess.run(["git", "-C", str(clone), "remote", "set-head", "origin", "main"], check=True)
    # Jobs fetch from the repository; what the program reads out of its address looks like a real one.
    for name, value in (
        ("remote.origin.url", "https://git.example/acme/forecasts.git"),
        (f"url.file://{origin.folder}.insteadOf", "https://git.example/acme/forecasts.git"),
    ):
        subprocess.run(["git", "-C", str(clone), "config", name, value], check=True)
    # The program lays what it hands on to a job into the job's tree, where GitLab does not.
    ignored = work / ".config" / "git" / "ignore"
    ignored.parent.mkdir(parents=True, exist_ok=True)
    ignored.write_text(".gitlab-ci-reports/\n")
    merge_request = variables.get("CI_PIPELINE_SOURCE") == MERGE_REQUEST["CI_PIPELINE_SOURCE"]
    declared = work / ".gitlab-ci-local" / "variables.yml"
    declared.parent.mkdir(exist_ok=True)
    declared.write_text(json.dumps({"global": project_variables(origin, merge_request, comment_token)}))
    settings = {
        "CI_PIPELINE_SOURCE": "push",
        "CI_API_V4_URL": origin.platform.url,
        **machine(origin),
        **variables,
    }
    command = ["node", str(PROGRAM), "--force-shell-executor", "--shell-isolation", "--color=false"]
    command += [
        "--ignore-predefined-vars",
        "CI_PIPELINE_SOURCE,CI_API_V4_URL,CI_JOB_MANUAL",
    ]
    for name, value in settings.items():
        command += ["--variable", f"{name}={value}"]
    command += only.split()
    if manual:
        command += ["--manual", manual]
    variables = {**clean(os.environ), "HOME": str(work)}
    done = subprocess.run(command, cwd=clone, env=variables, capture_output=True, text=True)
    (work / "log").write_text(done.stdout + done.stderr)
    ended = re.findall(r"^ (PASS|FAIL|WARN) +(\S+)", done.stdout, re.MULTILINE)
    artifacts = {
        job.name: {path.name for path in job.rglob("*") if path.is_file()}
        for job in (clone / ".gitlab-ci-local" / "artifacts").glob("*")
    }
    return Result({job: OUTCOMES[word] for word, job in ended}, done.stdout + done.stderr, artifacts)


def project_variables(origin: Origin, merge_request: bool, comment_token: str) -> dict[str, object]:
    """What the project declares: each environment's jobs see their own, merge requests nothing protected."""
    storage = str(origin.storage)
    scopes = {"COMMENT_TOKEN": {"report": comment_token}} if comment_token else {}
    if not merge_request:
        scopes["RELEASE_TOKEN"] = {"release": "token"}
        scopes["STORAGE"] = {"staging": storage, "production*": storage}
    return {name: {"type": "variable", "values": values} for name, values in scopes.items()}
