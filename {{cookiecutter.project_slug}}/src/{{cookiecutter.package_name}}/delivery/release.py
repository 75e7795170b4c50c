"""Releases: a tag on a commit whose checks passed, and a record of which one an environment runs."""

import re
import subprocess
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from ..environment import Environment
from . import host

BRANCH = "main"
RELEASES = "ops.releases"
VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
# What makes another model of the same data, below src/<package>/ and beside it.
TRAINING = ("usecase", "training", "lakehouse", "pipelines/featurize.py", "pipelines/train.py")
SETTINGS = ("conf/base.yml", "conf/prod.yml", "constraints.txt")
# No pipeline and no test reads these.
PROSE = re.compile(r"(docs/.*|notebooks/.*|[^/]*\.md|LICENSE)")


class ReleaseError(Exception):
    """The release cannot be cut or found; the message says why."""


def cut(project: Path, version: str) -> str:
    """Tag HEAD as `version` and return the commit.

    Raises ReleaseError unless HEAD is a clean commit of the default branch whose checks passed, and the version is
    later than every one before it.
    """
    number = _number(version)
    if _git(project, "status", "--porcelain"):
        raise ReleaseError("there are uncommitted changes: a release is a commit whose checks passed")
    commit = _git(project, "rev-parse", "HEAD")
    upstream = f"origin/{BRANCH}" if _git(project, "branch", "--remotes", "--list", f"origin/{BRANCH}") else BRANCH
    if not _succeeds(project, "merge-base", "--is-ancestor", commit, upstream):
        raise ReleaseError(f"{commit[:10]} is not on {upstream}: releases are cut from the default branch")
    earlier = [tag for tag in _git(project, "tag", "--list", "v*").split() if VERSION.fullmatch(tag)]
    newest = max(earlier, key=_number, default=None)
    if newest and number <= _number(newest):
        raise ReleaseError(f"{version} is not later than {newest}")
    if not host.checks_passed(commit, BRANCH):
        raise ReleaseError(f"{commit[:10]} has not passed the checks of {BRANCH}: nothing is released")
    host.tag(version, commit)
    return commit


def record(env: Environment, as_of: datetime) -> bool:
    """Record that `env` runs the code that is checked out; returns whether it calls for training.

    It does where anything has changed that makes another model, or nothing was deployed before.
    """
    before = current(env)
    with env.run("release", as_of) as run:
        row = {"as_of": as_of, "code": env.code, "commit": _git(env.project, "rev-parse", "HEAD")}
        env.tables.upsert(RELEASES, pa.Table.from_pylist([row]), ["as_of"])
        run.wrote(RELEASES, 1)
    return before is None or bool(_matching(env.project, before, _training_paths()))


def current(env: Environment) -> str | None:
    """The commit that `env` runs."""
    if not env.tables.exists(RELEASES):
        return None
    newest = max(env.tables.read(RELEASES).to_pylist(), key=lambda row: row["as_of"])
    return str(newest["commit"])


def check_out(env: Environment) -> str:
    """Bring the working tree to the commit that `env` runs, and return it; raises ReleaseError."""
    commit = current(env)
    if commit is None:
        raise ReleaseError(f"nothing is deployed in {env.name} yet: run the release first")
    _git(env.project, "checkout", "--quiet", "--detach", commit)
    return commit


def only_prose_changed(project: Path, since: str) -> bool:
    """Whether all that changed since the commit where HEAD left `since` is text that no check reads."""
    changed = _git(project, "diff", "--name-only", f"{since}...HEAD").splitlines()
    return bool(changed) and all(PROSE.fullmatch(name) for name in changed)


def _training_paths() -> list[str]:
    package = __package__.split(".")[0]
    return [f"src/{package}/{path}" for path in TRAINING] + list(SETTINGS)


def _matching(project: Path, since: str, paths: list[str]) -> list[str]:
    return _git(project, "diff", "--name-only", since, "HEAD", "--", *paths).splitlines()


def _number(version: str) -> tuple[int, ...]:
    match = VERSION.fullmatch(version)
    if not match:
        raise ReleaseError(f"{version!r} is not a version such as v0.2.0")
    return tuple(map(int, match.groups()))


def _succeeds(project: Path, *arguments: str) -> bool:
    return subprocess.run(["git", "-C", str(project), *arguments], capture_output=True, check=False).returncode == 0


def _git(project: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(project), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()
