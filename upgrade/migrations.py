"""What each version asks of older projects: declared in migrations.json, never guessed."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from releases import number

MIGRATIONS = Path(__file__).with_name("migrations.json")
# What the next release will bring; `make release` puts the version in its place.
NEXT = "unreleased"


class RefusedError(Exception):
    """An upgrade that cannot start, or an answer that does not fit: what is wrong, and what to do."""


@dataclass
class Keys:
    """Changes of settings, by dotted key, in YAML files that may be edited."""

    rename: dict[str, str] = field(default_factory=dict)
    remove: dict[str, str] = field(default_factory=dict)  # a key: what its owner does instead
    add: list[str] = field(default_factory=list)  # a key: its lines come from the new render's file


@dataclass
class Migration:
    """What a version asks of older projects. `<package>` in a path stands for the package's name.

    A path with a slash at its end is a folder, and means all that is in it.
    """

    answers: dict[str, str] = field(default_factory=dict)  # a prompt's old name: its new name
    values: dict[str, dict[str, str]] = field(default_factory=dict)  # prompt: {old choice: new choice}
    defaults: dict[str, str] = field(default_factory=dict)  # new prompt: the answer that keeps things as is
    # A path: its new path, or the list of those that it may have. Several files may go to one: they are
    # joined in this order. Modules are renamed accordingly where they are imported.
    files: dict[str, str | list[str]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)  # a module's name, dotted: where it is now
    owned: list[str] = field(default_factory=list)  # what is the owner's from now on; nothing: as before
    owners: list[str] = field(default_factory=list)  # of that, what takes the template's change this time
    renewed: list[str] = field(default_factory=list)  # of that, what takes it where the owner edited nothing
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)  # a pattern of YAML files: Keys
    advice: dict[str, str] = field(default_factory=dict)  # a path: what to do about a conflict there

    def apply(self, answers: Mapping[str, str]) -> dict[str, str]:
        """Return the answers by their new names and values."""
        renamed = {self.answers.get(name, name): value for name, value in answers.items()}
        return {name: self.values.get(name, {}).get(value, value) for name, value in renamed.items()}


def between(old: str, new: str, package: str = "<package>", path: Path = MIGRATIONS) -> list[Migration]:
    """Return the migrations of the versions after `old`, up to `new`, oldest first."""
    first, last = number(old) or (), number(new) or ()
    declared = _read(package, path)
    return [declared[version] for version in sorted(declared) if first < version <= last]


def owned(version: str, package: str = "<package>", path: Path = MIGRATIONS) -> list[str]:
    """Return the files and folders that are the owner's in this version."""
    found: list[str] = []
    for migration in between("0.0.0", version, package, path):
        found = migration.owned or found
    return found


def covers(declared: Iterable[str], path: str) -> bool:
    """Whether a path is one of those declared, or in a folder that is."""
    return any(path == one or (one.endswith("/") and path.startswith(one)) for one in declared)


def _read(package: str, path: Path) -> dict[tuple[int, ...], Migration]:
    content = json.loads(path.read_text().replace("<package>", package))
    declared = {number(version): Migration(**migration) for version, migration in content.items()}
    return {version: migration for version, migration in declared.items() if version}
