"""A repository on a CI platform: a render with small settings, its history, its environments' storage."""

import fcntl
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from bake import ROOT, bake
from platform_api import Platform
from rendered import environment, make

# Two times of the sample's data: what is trained at the first is used until the second.
FIRST, SECOND = "2013-02-15", "2013-03-01"
# Enough to see each pipeline work. What is judged here is the workflows.
SMALL: dict[str, dict[str, Any]] = {
    "base": {
        "training": {"holdout": "14d", "fraction": 0.2, "min_rows": 200},
        "registry": {
            "compliance": {
                "slice_limits": [{"metric": "roc_auc", "column": "origin", "at_least": 0.5, "min_rows": 300}]
            },
            "comparison": {"confidence": 0.8, "resamples": 50, "min_rows": 200},
        },
    },
    "staging": {"training": {"fraction": 0.2, "min_rows": 200}},
}
TREES = ('"max_iter": 150', '"max_iter": 40')


@dataclass(frozen=True)
class Result:
    """How a workflow ended: each job that ran, and everything that was said."""

    jobs: dict[str, str]
    said: str
    artifacts: dict[str, set[str]]

    @property
    def passed(self) -> bool:
        return set(self.jobs.values()) == {"success"}


@dataclass
class Origin:
    """The repository on the platform; `venv` has what it installs, `storage` its tables and models."""

    folder: Path
    venv: Path
    storage: Path
    platform: Platform = field(init=False)

    def __post_init__(self) -> None:
        self.platform = Platform(self.folder)

    def begin(self) -> None:
        """Make the render a repository with one commit, and let its sources deliver."""
        for name, settings in SMALL.items():
            path = self.folder / "conf" / f"{name}.yml"
            path.write_text(yaml.safe_dump(merged(yaml.safe_load(path.read_text()), settings)))
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("first", (f"src/{self.package()}/usecase/model.py", *TREES))
        for moment in (FIRST, SECOND):
            self.run("land", "--as-of", moment)
        self.storage.parent.mkdir(parents=True, exist_ok=True)
        (self.folder / "data").rename(self.storage)
        (self.folder / "data").symlink_to(self.storage)

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(self.folder), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, message: str, *changes: tuple[str, str, str]) -> str:
        """Commit what is there, after changes in files: (path, old text, new text). Returns the commit."""
        for path, old, new in changes:
            text = (self.folder / path).read_text()
            assert old in text, f"{path} does not hold {old!r}"
            (self.folder / path).write_text(text.replace(old, new, 1))
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def package(self) -> str:
        return next(path.name for path in (self.folder / "src").iterdir() if (path / "cli.py").exists())

    def run(self, *arguments: str) -> str:
        """Run the project's command line here, on the same storage."""
        command = [str(self.venv / "bin" / "python"), "-m", self.package(), *arguments]
        variables = {**os.environ, "PYTHONPATH": "src"}
        done = subprocess.run(command, cwd=self.folder, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


def merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`under` with the values of `over`, sections inside sections."""
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def machine_origin(template: Path, folder: Path, ci_platform: str) -> Origin:
    """A repository on a machine that is prepared: what it installs is there already."""
    project = bake(template, folder, {"ci_platform": ci_platform})
    venv = environment(project)
    venv.parent.mkdir(exist_ok=True)
    with venv.with_suffix(".lock").open("w") as lock:  # repositories of several platforms share it
        fcntl.flock(lock, fcntl.LOCK_EX)
        make(project, "setup")
    # A fresh clone's files are newer than the environment, which each job would install again.
    os.utime(venv / ".ready", (time.time(), time.time() + 10**6))
    origin = Origin(project, venv, folder / "storage")
    origin.begin()
    return origin


def machine(origin: Origin) -> dict[str, str]:
    """What the environment of a prepared machine says to every job: few tests, one logical time."""
    return {
        "VENV": str(origin.venv),
        "MYPY_CACHE_DIR": str(ROOT / "build" / "mypy"),
        "TESTS": "tests/unit/test_comparison.py",
        "SLOW_TESTS": "",
        "AS_OF": FIRST,
    }


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what its own make, and the platform it may run on, have set."""
    ours = ("MAKE", "MFLAGS", "GITHUB_", "CI_", "PYTEST_", "VIRTUAL_ENV")
    return {name: value for name, value in environment.items() if not name.startswith(ours)}
