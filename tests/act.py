"""Run GitHub workflows of a repository under act, on this machine; for other people's actions stand ours."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from origin import Origin, Result, clean, machine

ACTIONS = Path(__file__).parent / "actions"
REPOSITORY = "acme/forecasts"


def act(
    origin: Origin,
    work: Path,
    event: str,
    workflow: str,
    *,
    payload: Mapping[str, object] | None = None,
    inputs: dict[str, str] | None = None,
    variables: dict[str, str] | None = None,
    only: str = "",
) -> Result:
    """Run a workflow, or its job `only`, for an event at the origin's HEAD.

    `variables` come on top of the machine's.
    """
    work.mkdir(parents=True, exist_ok=True)
    clone, kept = work / "clone", work / "artifacts"
    subprocess.run(["git", "clone", "--quiet", str(origin.folder), str(clone)], check=True)
    subprocess.run(
        ["git", "-C", str(clone), "remote", "set-url", "origin", f"https://git.example/{REPOSITORY}"],
        check=True,
    )
    forget_the_queue(clone)
    (work / "event.json").write_text(json.dumps({**(payload or {}), "inputs": inputs or {}}))
    settings = {
        "GITHUB_API_URL": origin.platform.url,
        "GITHUB_REPOSITORY": REPOSITORY,
        "ORIGIN": str(origin.folder),
        "ARTIFACTS": str(kept),
        **machine(origin),
        **(variables or {}),
    }
    command = [
        str(Path(sys.executable).with_name("act")),
        event,
        "--json",
        "--no-cache-server",
        "--rm",
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
        "--secret",
        f"ACCESS={' '.join(f'{name}={value}' for name, value in origin.access.items())}",
        "--var",
        f"STORAGE={'' if origin.access else origin.storage}",
    ]
    if only:
        command += ["--job", only]
    for name, value in settings.items():
        command += ["--env", f"{name}={value}"]
    for name, value in (inputs or {}).items():
        command += ["--input", f"{name}={value}"]
    for action in sorted(used(clone)):
        command += [
            "--local-repository",
            f"{action}={ACTIONS / action.split('@')[0].removeprefix('actions/')}",
        ]
    home = {"XDG_CACHE_HOME": str(work / "cache"), "HOME": str(work)}
    done = subprocess.run(command, env={**clean(os.environ), **home}, capture_output=True, text=True)
    left = [path.name for path in (work / "cache" / "act").glob("*/hostexecutor")]
    assert not left, "a job's folder is gone with its machine"
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    jobs = {line["jobID"]: line["jobResult"] for line in lines if "jobResult" in line}
    said = "\n".join(line.get("msg", "") for line in lines) + done.stderr
    (work / "log").write_text(said)
    return Result(
        jobs, said, {folder.name: {path.name for path in folder.iterdir()} for folder in kept.glob("*")}
    )


def forget_the_queue(project: Path) -> None:
    """Take `queue: max` out of the workflows: the platform knows it since May 2026, act does not."""
    for path in (project / ".github" / "workflows").glob("*.yml"):
        path.write_text(re.sub(r"\n +queue: max", "", path.read_text()))


def used(project: Path) -> set[str]:
    """Other people's actions that the workflows use, with their versions."""
    texts = [path.read_text() for path in (project / ".github" / "workflows").glob("*.yml")]
    return {name for text in texts for name in re.findall(r"uses: ([^.\s][^\s]*)", text)}
