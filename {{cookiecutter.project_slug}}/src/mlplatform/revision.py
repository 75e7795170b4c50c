"""Which code is running, as git or the installed wheel says: its version, and whether that is a release.

A project that is a folder of a repository has releases of its own: `<folder>/v1.2.0`, and in the root `v1.2.0`.
"""

import re
import subprocess
from importlib import metadata
from pathlib import Path

from mlplatform.errors import UserError


class NotReleasedError(UserError):
    """The environment accepts released code only, and this is not; the message says why and what to do."""


class GitError(UserError):
    """Git did not do what was asked of it; the message has its own words."""


def code_version(project: Path) -> str:
    """The release tag, or the nearest one with distance and commit; `-dirty` with uncommitted changes."""
    if not _is_source_checkout(project):
        return _installed_version()
    found = _git(project, "describe", "--tags", "--always", "--match", f"{tag_prefix(project)}v[0-9]*")
    dirty = "-dirty" * bool(_git(project, "status", "--porcelain", "--untracked-files=no", "--", "."))
    return found.removeprefix(tag_prefix(project)) + dirty if found else "uncommitted"


def released_version(project: Path) -> str:
    """The release that is running: a clean checkout of the project at its tag v<number>, or an installed wheel.

    Raises NotReleasedError for anything else.
    """
    if not _is_source_checkout(project):
        version = _installed_version()
        if "dev" in version or "+" in version:
            raise NotReleasedError(f"the installed version {version} is not a release: install a released wheel")
        return version
    if not kept_by_git(project):
        raise NotReleasedError(f"{project.name} is not in a git checkout: commit it and tag a release")
    changed = _git(project, "status", "--porcelain", "--", ".")
    if changed:
        raise NotReleasedError(f"{len(changed.splitlines())} uncommitted changes: commit them and tag a release")
    prefix = tag_prefix(project)
    tag = _git(project, "describe", "--tags", "--exact-match", "--match", f"{prefix}v[0-9]*")
    if not tag:
        raise NotReleasedError(
            f"HEAD carries no release tag: `git tag {prefix}v<number>` on a commit whose checks passed"
        )
    return tag.removeprefix(prefix)


def can_be_found(code: str) -> bool:
    """Whether code of this version (see `code_version`) is in the repository: a commit, and nothing beside it."""
    return not re.search(r"-dirty$|[+.]d\d{8}$|^uncommitted$|\.dev0$", code)


def tag_prefix(project: Path) -> str:
    """What tags of this project begin with: its folder in the repository and a slash; nothing in the root."""
    return _git(project, "rev-parse", "--show-prefix")


def kept_by_git(folder: Path) -> bool:
    """Whether the folder is a repository, or part of one that does not ignore it."""
    return bool(_git(folder, "rev-parse", "--show-toplevel")) and not _git(folder, "check-ignore", str(folder))


def _installed_version() -> str:
    """The version of the wheel that holds this file; `0.dev0` where there is none."""
    here = Path(__file__).parent
    for command in metadata.entry_points(group="console_scripts"):  # quicker than to ask every distribution
        wheel = command.dist
        if wheel and command.value.endswith(".__main__:main") and Path(str(wheel.locate_file(here.name))) == here:
            return wheel.version
    return "0.dev0"


def _is_source_checkout(project: Path) -> bool:
    return Path(__file__).resolve().is_relative_to(project.resolve() / "src")


def git(folder: Path, *arguments: str) -> str:
    """What git answers in `folder`; raises GitError with git's own words."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise GitError("git is not installed") from error
    if done.returncode:
        raise GitError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def _git(folder: Path, *arguments: str) -> str:
    """What git answers, or nothing where git, the repository or a first commit is missing."""
    try:
        return git(folder, *arguments)
    except GitError:
        return ""
