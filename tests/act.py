"""Run GitHub workflows of a repository under act, on this machine; for other people's actions stand ours."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from origin import FIRST, Origin

ACTIONS = Path(__file__).parent / "actions"
REPOSITORY = "acme/forecasts"


@dataclass(frozen=True)
class Result:
    """How a workflow ended: each job that ran, and everything that was said."""

    jobs: dict[str, str]
    said: str
    artifacts: dict[str, set[str]]

    @property
    def passed(self) -> bool:
        return set(self.jobs.values()) == {"success"}


def act(
    origin: Origin,
    work: Path,
    event: str,
    workflow: str,
    *,
    payload: Mapping[str, object] | None = None,
    inputs: dict[str, str] | None = None,
    variables: dict[str, str] | None = None,
) -> Result:
    """Run a workflow for an event at the origin's HEAD; `variables` come on top of the machine's."""
    work.mkdir(parents=True, exist_ok=True)
    clone, kept = work / "clone", work / "artifacts"
    subprocess.run(["git", "clone", "--quiet", str(origin.folder), str(clone)], check=True)
    subprocess.run(
        ["git", "-C", str(clone), "remote", "set-url", "origin", f"https://git.example/{REPOSITORY}"],
        check=True,
    )
    (work / "event.json").write_text(json.dumps({**(payload or {}), "inputs": inputs or {}}))
    machine = {
        "GITHUB_API_URL": origin.platform.url,
        "GITHUB_REPOSITORY": REPOSITORY,
        "ORIGIN": str(origin.folder),
        "ARTIFACTS": str(kept),
        "VENV": str(origin.venv),
        "MYPY_CACHE_DIR": str(origin.storage.parent / "mypy"),
        "TESTS": "tests/unit/test_comparison.py",
        "SLOW_TESTS": "",
        "AS_OF": FIRST,
        **(variables or {}),
    }
    command = [
        str(Path(sys.executable).with_name("act")),
        event,
        "--json",
        "--no-cache-server",
        "--no-skip-checkout",
        "--workflows",
        str(clone / ".github" / "workflows" / workflow),
        "--directory",
        str(clone),
        "--eventpath",
        str(work / "event.json"),
        "--platform",
        "ubuntu-latest=-self-hosted",
        "--secret",
        "GITHUB_TOKEN=token",
        "--var",
        f"STORAGE={origin.storage}",
    ]
    for name, value in machine.items():
        command += ["--env", f"{name}={value}"]
    for name, value in (inputs or {}).items():
        command += ["--input", f"{name}={value}"]
    for action in sorted(used(clone)):
        command += [
            "--local-repository",
            f"{action}={ACTIONS / action.split('@')[0].removeprefix('actions/')}",
        ]
    quiet = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MAKE", "MFLAGS", "GITHUB_"))
    }
    home = {"XDG_CACHE_HOME": str(work / "cache"), "HOME": str(work)}
    done = subprocess.run(command, env={**quiet, **home}, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    jobs = {line["jobID"]: line["jobResult"] for line in lines if "jobResult" in line}
    said = "\n".join(line.get("msg", "") for line in lines) + done.stderr
    return Result(
        jobs, said, {folder.name: {path.name for path in folder.iterdir()} for folder in kept.glob("*")}
    )


def used(project: Path) -> set[str]:
    """Other people's actions that the workflows use, with their versions."""
    texts = [path.read_text() for path in (project / ".github" / "workflows").glob("*.yml")]
    return {name for text in texts for name in re.findall(r"uses: ([^.\s][^\s]*)", text)}
