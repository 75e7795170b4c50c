"""Make a release of the template: the commit that sets the version together with its entry in the changelog.

As a script: python upgrade/release.py VERSION CHECK, in the template's repository; CHECK is the command that
has to succeed first. `make release VERSION=...` gives the tests of upgrades.
"""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

from migrations import NEXT, RefusedError
from releases import PLACE, git, number, releases

CHANGELOG, MIGRATIONS = "CHANGELOG.md", "upgrade/migrations.json"


def release(repository: Path, version: str, check: str) -> None:
    """Set the version, run the check, commit, tag. Raises RefusedError, with everything left as it was."""
    version = version.removeprefix("v")
    wanted = number(version)
    if not wanted:
        raise RefusedError(f"{version!r} is not a version: make release VERSION=MAJOR.MINOR.PATCH")
    for known in releases(repository):
        if wanted <= (number(known) or ()):
            raise RefusedError(f"{version} does not come after {known}, which is released")
    if git(repository, "status", "--porcelain"):
        raise RefusedError("changes are not committed; a release is made of committed work")
    entries = (repository / CHANGELOG).read_text()
    entry = re.search(r"^## Unreleased\n(.*?)(?=^## |\Z)", entries, re.MULTILINE | re.DOTALL)
    if not entry or not entry[1].strip():
        raise RefusedError(f"{CHANGELOG}: write under `## Unreleased` what users of {version} will see")
    place, migrations = repository / PLACE, repository / MIGRATIONS
    current = json.loads(place.read_text())["_version"]
    try:
        place.write_text(place.read_text().replace(f'"_version": "{current}"', f'"_version": "{version}"'))
        (repository / CHANGELOG).write_text(entries.replace("## Unreleased\n", f"## {version}\n", 1))
        _name_migration(migrations, version)
        if subprocess.run(shlex.split(check), cwd=repository).returncode:
            raise RefusedError(f"not released: the check failed: {check}")
        git(
            repository,
            "commit",
            "--quiet",
            "--message",
            f"Release {version}",
            "--",
            PLACE,
            CHANGELOG,
            MIGRATIONS,
        )
    except BaseException:
        git(repository, "checkout", "--quiet", "HEAD", "--", PLACE, CHANGELOG, MIGRATIONS)
        raise
    git(repository, "tag", f"v{version}")


def _name_migration(path: Path, version: str) -> None:
    """File what the next release moves under its version, and lay out an empty place for the one after."""
    declared = json.loads(path.read_text())
    moved = declared.pop(NEXT, {})
    named = {NEXT: {}} | ({version: moved} if moved else {}) | declared
    path.write_text(json.dumps(named, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    try:
        release(Path.cwd(), *sys.argv[1:])
    except (RefusedError, subprocess.CalledProcessError) as error:
        sys.exit(f"refused: {getattr(error, 'stderr', None) or error}")
    print("Released. Push the commit and its tag: git push --follow-tags")
