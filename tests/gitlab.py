"""Run the GitLab pipeline of a repository under gitlab-ci-local; each job has a tree of its own."""

import os
import re
import subprocess
from pathlib import Path

from bake import ROOT
from origin import Origin, Result, clean, machine

PROGRAM = ROOT / "build" / "npm" / "node_modules" / ".bin" / "gitlab-ci-local"
OUTCOMES = {"PASS": "success", "FAIL": "failure", "WARN": "failure"}


def pipeline(origin: Origin, work: Path, *, manual: str = "", **variables: str) -> Result:
    """Run the pipeline at the origin's HEAD, with the job `manual` started by hand, if one is named."""
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
    settings = {
        "CI_PIPELINE_SOURCE": "push",
        "CI_API_V4_URL": origin.platform.url,
        "RELEASE_TOKEN": "token",
        "STORAGE": str(origin.storage),
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
