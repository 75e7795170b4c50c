"""The template's releases: which versions there are, and the commit of each."""

import json
import re
import subprocess
from pathlib import Path

# The one place of the template's version.
PLACE = "cookiecutter.json"


def git(repository: Path, *words: str) -> str:
    """Run git there and return what it prints. Raises CalledProcessError, with git's own words in stderr."""
    command = ["git", "-C", str(repository), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def number(version: str) -> tuple[int, ...] | None:
    """Return a version as numbers that compare, or None if it is not MAJOR.MINOR.PATCH."""
    found = re.fullmatch(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", version)
    return tuple(int(part) for part in found.groups()) if found else None


def version_at(repository: Path, commit: str) -> str | None:
    """Return the version that the template has at this commit, or None where it has none."""
    try:
        content: dict[str, object] = json.loads(git(repository, "show", f"{commit}:{PLACE}"))
    except (subprocess.CalledProcessError, json.JSONDecodeError):
        return None
    version = content.get("_version")
    return version if isinstance(version, str) and number(version) else None


def releases(repository: Path) -> dict[str, str]:
    """Return the commit of each version, oldest version first.

    A release is the commit that sets the version: on the main line or, of several that were merged at once,
    on the branch that was merged. A tag says the same, and counts where there is one; but a clone may lack
    tags, and then the history says it all.
    """
    found: dict[str, str] = {}
    words = ["--format=%H", "--reverse", '-G"_version":']
    for line in (["--first-parent", "-m"], ["--full-history"]):
        for commit in git(repository, "log", *line, *words, "HEAD", "--", PLACE).split():
            version = version_at(repository, commit)
            if version:
                found.setdefault(version, commit)
    for tag in git(repository, "tag", "--list", "v*").split():
        version = tag.removeprefix("v")
        if version_at(repository, tag) == version:
            found[version] = git(repository, "rev-parse", f"{tag}^{{commit}}")
    return dict(sorted(found.items(), key=lambda item: number(item[0]) or ()))


def changes(repository: Path, commit: str, since: str) -> str:
    """Return the entries of the changelog at `commit` that are newer than version `since`."""
    try:
        text = git(repository, "show", f"{commit}:CHANGELOG.md")
    except subprocess.CalledProcessError:
        return ""
    kept = []
    for entry in re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]:
        version = number(entry.split("\n", 1)[0].removeprefix("## ").strip())
        if version and version > (number(since) or ()):
            kept.append(entry.strip())
    return "\n\n".join(kept)
