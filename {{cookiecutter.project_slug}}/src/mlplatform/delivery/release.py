"""Releases: a tag on a commit whose checks passed, and a record of which one an environment runs."""

import re
from datetime import datetime
from operator import attrgetter
from pathlib import Path

from mlplatform.delivery.hosts import Host
from mlplatform.environment import Environment
from mlplatform.errors import UserError
from mlplatform.revision import git, tag_prefix
from mlplatform.storage import ops
from mlplatform.storage.catalog import option

BRANCH = "main"
VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
# What makes another model of the same data, beside the owner's package: below src/mlplatform/, and settings.
TRAINING = (
    *("contract.py", "engine", "features", "preparation", "training"),
    *("pipelines/featurize.py", "pipelines/ingest.py", "pipelines/train.py"),
)
SETTINGS = ("conf/base.yml", "conf/prod.yml", "constraints.txt")
# Where tables and models are; an address of another machine: no folder, no file: and no SQLite.
PLACES = ("lakehouse.root", "lakehouse.landing", "registry.tracking_uri", "registry.artifacts")
ELSEWHERE = re.compile(r"(?!sqlite:|file:)[a-z][a-z0-9+-]+:/")
# No pipeline and no test reads these.
PROSE = re.compile(r"(docs/.*|notebooks/.*|[^/]*\.md|LICENSE)")


class ReleaseError(UserError):
    """The release cannot be cut or found; the message says why."""


def cut(project: Path, version: str, host: Host) -> str:
    """Tag HEAD as `version` and return the commit.

    Raises ReleaseError unless HEAD is a clean commit of the default branch whose checks passed, and the version is
    later than every one before it.
    """
    number = _number(version)
    if git(project, "status", "--porcelain", "--", "."):
        raise ReleaseError("there are uncommitted changes: a release is a commit whose checks passed")
    commit = git(project, "rev-parse", "HEAD")
    upstream = f"origin/{BRANCH}" if git(project, "branch", "--remotes", "--list", f"origin/{BRANCH}") else BRANCH
    if git(project, "merge-base", commit, upstream) != commit:
        raise ReleaseError(f"{commit[:10]} is not on {upstream}: releases are cut from the default branch")
    prefix = tag_prefix(project)
    tags = [tag.removeprefix(prefix) for tag in git(project, "tag", "--list", f"{prefix}v*").split()]
    earlier = [tag for tag in tags if VERSION.fullmatch(tag)]
    newest = max(earlier, key=_number, default=None)
    if newest and number <= _number(newest):
        raise ReleaseError(f"{version} is not later than {newest}")
    if not host.checks_passed(commit, BRANCH):
        raise ReleaseError(f"{commit[:10]} has not passed the checks of {BRANCH}: nothing is released")
    host.tag(f"{prefix}{version}", commit)
    return commit


def record(env: Environment, as_of: datetime) -> bool:
    """Record that `env` runs the code that is checked out; returns whether it calls for training.

    It does where anything has changed that makes another model, or nothing was deployed before.
    """
    before = current(env)
    with env.run("release", as_of) as run:
        row = {"as_of": as_of, "code": env.code, "commit": git(env.folder, "rev-parse", "HEAD")}
        env.catalog.upsert(ops.RELEASES, ops.rows(ops.RELEASES, [row]), ops.KEYS[ops.RELEASES])
        run.wrote(ops.RELEASES, 1)
    paths = [f"src/{env.project.package}", *(f"src/mlplatform/{path}" for path in TRAINING), *SETTINGS]
    return before is None or bool(git(env.folder, "diff", "--name-only", "--relative", before, "HEAD", "--", *paths))


def current(env: Environment) -> str | None:
    """The commit that `env` runs."""
    releases = env.catalog.read(ops.RELEASES).to_pylist()
    return str(max(releases, key=lambda row: row["as_of"])["commit"]) if releases else None


def check_out(env: Environment) -> str:
    """Bring the working tree to the commit that `env` runs, and return it; raises ReleaseError."""
    commit = current(env)
    if commit is None:
        raise ReleaseError(f"nothing is deployed in {env.name} yet: run the release first")
    git(env.folder, "checkout", "--quiet", "--detach", commit)
    return commit


def only_prose_changed(project: Path, since: str) -> bool:
    """Whether all that changed since the commit where HEAD left `since` is text that no check reads."""
    changed = git(project, "diff", "--name-only", "--relative", f"{since}...HEAD").splitlines()
    if not changed:  # it did, in other folders of the repository
        return bool(tag_prefix(project))
    return all(PROSE.fullmatch(name) for name in changed)


def refuse_lost_disk(env: Environment, host: Host) -> None:
    """Raise UserError where this job's disk is gone after it, and tables or models would lie there.

    Those of `env`, and of the environments whose models are promoted to it: the same jobs train and judge them.
    """
    if not host.disk_is_lost():
        return
    chain = option("mlplatform.pipelines.promote:chain")
    for name in chain(env) if chain else [env.name]:
        places = {setting: attrgetter(setting)(env.config_of(name)) for setting in PLACES}
        if here := [f"{setting} ({place})" for setting, place in places.items() if not ELSEWHERE.match(place)]:
            raise UserError(
                f"this runner's disk is gone after the job, and with it {', '.join(here)} of {name}: put addresses "
                f"into conf/{name}.yml, or let a runner of your own do it (docs/ci-cd.md)"
            )


def _number(version: str) -> tuple[int, ...]:
    match = VERSION.fullmatch(version)
    if not match:
        raise ReleaseError(f"{version!r} is not a version such as v0.2.0")
    return tuple(map(int, match.groups()))
