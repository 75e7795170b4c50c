"""Which code is running: its version, and whether that is a release."""

import subprocess
from importlib import metadata
from pathlib import Path


class NotReleasedError(Exception):
    """The environment accepts released code only, and this is not; the message says why and what to do."""


def code_version(project: Path) -> str:
    """The release tag, or the nearest one with distance and commit; `-dirty` with uncommitted changes."""
    if not _is_source_checkout(project):
        return _installed_version()
    return _git(project, "describe", "--tags", "--always", "--dirty") or "uncommitted"


def released_version(project: Path) -> str:
    """The release that is running: a clean checkout at a tag v<number>, or an installed wheel.

    Raises NotReleasedError for anything else.
    """
    if not _is_source_checkout(project):
        version = _installed_version()
        if "dev" in version or "+" in version:
            raise NotReleasedError(f"the installed version {version} is not a release: install a released wheel")
        return version
    top = _git(project, "rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != project.resolve():
        raise NotReleasedError(f"{project.name} is not the root of a git checkout: commit it and tag a release")
    changed = _git(project, "status", "--porcelain")
    if changed:
        raise NotReleasedError(f"{len(changed.splitlines())} uncommitted changes: commit them and tag a release")
    tag = _git(project, "describe", "--tags", "--exact-match", "--match", "v[0-9]*")
    if not tag:
        raise NotReleasedError("HEAD carries no release tag: `git tag v<number>` on a commit whose checks passed")
    return tag


def _installed_version() -> str:
    """The version of the wheel that brings this package's command; `0.dev0` where there is none."""
    commands = metadata.entry_points(group="console_scripts")
    wheels = [command.dist for command in commands if command.value.partition(".")[0] == __package__]
    return wheels[0].version if wheels and wheels[0] else "0.dev0"


def _is_source_checkout(project: Path) -> bool:
    return Path(__file__).resolve().is_relative_to(project.resolve() / "src")


def _git(project: Path, *arguments: str) -> str:
    """What git answers, or nothing where git, the repository or a first commit is missing."""
    try:
        answer = subprocess.run(["git", "-C", str(project), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
