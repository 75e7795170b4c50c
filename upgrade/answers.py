"""The answers for the new version: recorded ones after the declared migrations, and those to new prompts."""

import json
from collections.abc import Mapping
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
class Migration:
    """What a version asks of older projects. `<package>` in a path stands for the package's name."""

    answers: dict[str, str] = field(default_factory=dict)  # a prompt's old name: its new name
    values: dict[str, dict[str, str]] = field(default_factory=dict)  # prompt: {old choice: new choice}
    files: dict[str, str] = field(
        default_factory=dict
    )  # a file, or a folder with a slash at its end: its new path
    owners: list[str] = field(
        default_factory=list
    )  # files of the owner's that must take the template's change
    defaults: dict[str, str] = field(
        default_factory=dict
    )  # new prompt: the answer that keeps things as they are

    def apply(self, answers: Mapping[str, str]) -> dict[str, str]:
        """Return the answers by their new names and values."""
        renamed = {self.answers.get(name, name): value for name, value in answers.items()}
        return {name: self.values.get(name, {}).get(value, value) for name, value in renamed.items()}


def between(old: str, new: str, path: Path = MIGRATIONS) -> list[Migration]:
    """Return the migrations of the versions after `old`, up to `new`, oldest first."""
    declared = {number(version): Migration(**content) for version, content in _read(path).items()}
    first, last = number(old) or (), number(new) or ()
    return [declared[version] for version in sorted(v for v in declared if v) if first < version <= last]


def _read(path: Path) -> dict[str, dict[str, Any]]:
    content: dict[str, dict[str, Any]] = json.loads(path.read_text())
    return content


def fit(prompts: Mapping[str, object], name: str, value: str) -> str:
    """Return the value if the prompt takes it. Raises RefusedError with what it takes instead."""
    choices = prompts[name]
    if isinstance(choices, list) and value not in choices:
        raise RefusedError(f"{name}: {value!r} is not one of {', '.join(choices)}")
    return value


def complete(
    prompts: Mapping[str, object],
    known: Mapping[str, str],
    given: Mapping[str, str],
    defaults: Mapping[str, str],
    interactive: bool,
) -> dict[str, str]:
    """Return the answers to every prompt: known ones as they are, new ones as given, asked for, or default.

    The default is what keeps the project as it was, if a migration names it, or else the prompt's own.
    """
    asked = {name: raw for name, raw in prompts.items() if not name.startswith("_")}
    for name, value in given.items():
        if name not in asked:
            raise RefusedError(f"--set {name}: no prompt asks for it; prompts are {', '.join(asked)}")
        if name in known:
            raise RefusedError(
                f"--set {name}: answered when the project was rendered ({known[name]!r}), not a new prompt"
            )
        fit(prompts, name, value)
    answers: dict[str, str] = {}
    for name in asked:
        if name in known:
            answers[name] = fit(prompts, name, known[name])
            continue
        answer = given.get(name) or _default(prompts, name, answers, defaults)
        if interactive and name not in given:
            answer = _ask(prompts, name, answer)
        answers[name] = fit(prompts, name, answer)
    return answers


def _default(
    prompts: Mapping[str, object], name: str, answers: Mapping[str, str], defaults: Mapping[str, str]
) -> str:
    # Imported late: it takes a while, and most upgrades bring no new prompt.
    from cookiecutter.prompt import render_variable
    from cookiecutter.utils import create_env_with_context

    raw = prompts[name]
    own = raw[0] if isinstance(raw, list) else raw
    environment = create_env_with_context({"cookiecutter": dict(prompts)})
    return defaults.get(name) or str(render_variable(environment, own, dict(answers)))


def _ask(prompts: Mapping[str, object], name: str, default: str) -> str:
    from cookiecutter.prompt import read_user_choice, read_user_variable

    raw, labels = prompts[name], prompts.get("__prompts__")
    if isinstance(raw, list):
        choices = [default, *(choice for choice in raw if choice != default)]
        return str(read_user_choice(name, choices, labels))
    return str(read_user_variable(name, default, labels))
