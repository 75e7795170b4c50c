"""Time an upgrade with twenty changed files: our updater beside cruft and copier, on the same change.

As a script: python benchmarks/upgrade.py [ROUNDS]. The peers are installed from PyPI into a folder that goes
away. Each round takes a fresh copy of a project in which the owner has edited twenty files, half of them
those that the template changes, and runs each tool once, in turn: what else the machine does meets them all.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES, CHANGED = 100, 20
ENVIRONMENT = os.environ | {
    "GIT_CONFIG_GLOBAL": os.devnull,
    **{f"GIT_{who}_{what}": "bench" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def run(folder: Path, *command: str | Path) -> None:
    """Run a command there. Raises CalledProcessError, with its output, if it fails."""
    subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=ENVIRONMENT,
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )


def write_version(template: Path, body: str, version: str) -> None:
    """Write a template's version: a hundred files, of which the first twenty say the version."""
    folder = template / body
    folder.mkdir(exist_ok=True)
    for number in range(FILES):
        told = version if number < CHANGED else "1"
        lines = "".join(f"file {number}, line {line}\n" for line in range(60))
        (folder / f"file-{number}.txt").write_text(f"version {told}\n{lines}")


def templates(work: Path) -> tuple[Path, Path]:
    """Make the same two releases for cookiecutter and for copier."""
    ours, theirs = work / "cookiecutter", work / "copier"
    for folder in (ours, theirs):
        folder.mkdir()
        run(folder, "git", "init", "--quiet", "--initial-branch=main")
    shutil.copytree(ROOT / "upgrade", ours / "upgrade", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "constraints.txt", ours)
    (ours / "hooks").mkdir()
    hook = (ROOT / "hooks" / "post_gen_project.py").read_text()
    start = 'if __name__ == "__main__":'
    (ours / "hooks" / "post_gen_project.py").write_text(hook.replace(start, f"PLATFORM = {{}}\n\n{start}"))
    (theirs / "copier.yml").write_text("_subdirectory: body\nname:\n  type: str\n  default: project\n")
    (theirs / "body").mkdir()
    answers = "{{ _copier_answers | to_nice_yaml }}"
    (theirs / "body" / "{{ _copier_conf.answers_file }}.jinja").write_text(answers)
    for version in ("1.0.0", "2.0.0"):
        prompts = {"name": "project", "_version": version, "_source": str(ours)}
        (ours / "cookiecutter.json").write_text(json.dumps(prompts, indent=2))
        write_version(ours, "{{cookiecutter.name}}", version)
        write_version(theirs, "body", version)
        for folder in (ours, theirs):
            run(folder, "git", "add", "--all")
            run(folder, "git", "commit", "--quiet", "--message", version)
            run(folder, "git", "tag", f"v{version}")
    return ours, theirs


def edited(project: Path) -> Path:
    """Commit the render and, in twenty files that the template changes or not, an edit by the owner."""
    run(project, "git", "init", "--quiet")
    for number in range(CHANGED // 2, CHANGED // 2 + CHANGED):
        with (project / f"file-{number}.txt").open("a") as file:
            file.write("a line of the owner's\n")
    run(project, "git", "add", "--all")
    run(project, "git", "commit", "--quiet", "--message", "Edits")
    return project


def main(rounds: int) -> None:
    """Print the median time of each tool, and its ratio to ours."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        peers = work / "peers"
        uv = Path(sys.executable).with_name("uv")
        run(work, uv, "venv", "--quiet", "--python", sys.executable, peers)
        run(
            work,
            uv,
            "pip",
            "install",
            "--quiet",
            "--compile-bytecode",
            "--python",
            peers / "bin/python",
            "cruft",
            "copier",
        )
        ours, theirs = templates(work)
        first = ["--no-input", "--default-config", "--output-dir", str(work / "made")]
        run(ours, "git", "checkout", "--quiet", "v1.0.0")
        run(work, sys.executable, "-m", "cookiecutter", *first, ours)
        run(ours, "git", "checkout", "--quiet", "main")
        run(
            work,
            peers / "bin/copier",
            "copy",
            "--defaults",
            "--vcs-ref",
            "v1.0.0",
            theirs,
            work / "made-by-copier",
        )
        projects = {True: edited(work / "made" / "project"), False: edited(work / "made-by-copier")}
        tools: dict[str, tuple[bool, list[str | Path]]] = {
            "update-template": (True, [sys.executable, ours / "upgrade", "update"]),
            "cruft": (True, [peers / "bin/cruft", "update", "-y"]),
            "copier": (False, [peers / "bin/copier", "update", "--defaults"]),
        }
        times: dict[str, list[float]] = {tool: [] for tool in tools}
        for number in range(rounds):
            for tool, (by_us, command) in tools.items():
                copy = Path(shutil.copytree(projects[by_us], work / f"{tool}-{number}"))
                started = time.perf_counter()
                run(copy, *command)
                times[tool].append(time.perf_counter() - started)
                text = (copy / "file-15.txt").read_text()
                assert text.startswith("version 2.0.0\n") and text.endswith("owner's\n"), (
                    f"{tool} did not merge"
                )
                shutil.rmtree(copy)
        medians = {tool: statistics.median(taken) for tool, taken in times.items()}
        print(f"An upgrade of {CHANGED} files of {FILES}, {CHANGED} edited; medians of {rounds} rounds:")
        for tool, median in medians.items():
            print(f"{tool:16} {median:6.2f} s  {median / medians['update-template']:5.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
