"""Bring a rendered project up to a release of the template: what `make update-template` fetches and runs.

As a script: python upgrade check|update, in the project's folder. Exit codes: 0 done or up to date,
1 conflicts or tasks remain, 2 refused, or (check) a newer release exists.
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import releases
from answers import complete
from merge import RECORD, plan
from migrations import RefusedError, between, owned
from render import render
from repository import BACK, Plan, Project, Scratch

ROOT = Path(__file__).resolve().parent.parent
HERE = "make update-template"


@dataclass
class Record:
    """What .cruft.json says of a project's render."""

    version: str
    commit: str | None
    answers: dict[str, str]

    @classmethod
    def read(cls, project: Path) -> "Record":
        """Read a project's record, written by our hook or by cruft. Raises RefusedError if it cannot."""
        try:
            content = json.loads((project / RECORD).read_text())
            context = content["context"]["cookiecutter"]
            answers = {name: value for name, value in context.items() if not name.startswith("_")}
            return cls(context["_version"], content["commit"], answers)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RefusedError(
                f"{project / RECORD}: {error!r}; without the record of version and answers "
                "nothing can be merged: restore it from git"
            ) from error


def main(words: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    parser = argparse.ArgumentParser(prog=f'{HERE} FLAGS="..."', description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="say whether a newer release exists")
    update = commands.add_parser(
        "update", prog=f'{HERE} FLAGS="..."', help="merge a release into the project"
    )
    update.add_argument(
        "--to", metavar="VERSION", help="the release to take (make: TO=); default: the newest"
    )
    update.add_argument("--dry-run", action="store_true", help="show the plan, change nothing")
    update.add_argument(
        "--abort", action="store_true", help="put everything back as it was before the upgrade"
    )
    update.add_argument("--defaults", action="store_true", help="do not ask: new prompts get their defaults")
    update.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="the answer to a new prompt; can be repeated",
    )
    args = parser.parse_args(words)
    folder = Path.cwd()
    try:
        if args.command == "check":
            return check(folder)
        if args.abort:
            Project(folder).undo()
            print("Everything is as it was before the upgrade.")
            return 0
        given = dict(_pair(word) for word in args.set)
        interactive = sys.stdin.isatty() and not args.defaults
        return upgrade(folder, args.to, given, interactive, args.dry_run)
    except (RefusedError, subprocess.CalledProcessError) as error:
        print(f"refused: {getattr(error, 'stderr', None) or error}", file=sys.stderr)
        return 2


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals:
        raise RefusedError(f"--set {word}: write --set NAME=VALUE")
    return name, value


def check(folder: Path) -> int:
    """Say whether the project is behind the newest release: 2 if it is, or else 0."""
    record = Record.read(folder)
    newest = list(_releases())[-1]
    if (releases.number(newest) or ()) > (releases.number(record.version) or ()):
        print(f"A newer release of the template exists: {newest}; this project has {record.version}: {HERE}")
        return 2
    print(f"Up to date: this project has version {record.version} of the template, the newest is {newest}.")
    return 0


def upgrade(
    folder: Path, wanted: str | None, given: Mapping[str, str], interactive: bool, dry_run: bool
) -> int:
    """Merge a release into the project: 1 if conflicts or tasks remain, or else 0. Raises RefusedError."""
    known = _releases()
    version = (wanted or list(known)[-1]).removeprefix("v")
    if version not in known:
        raise RefusedError(f"there is no release {version}; releases are {', '.join(known)}")
    project = Project(folder)
    record = Record.read(folder)
    project.check_clean()
    files = project.files()
    if RECORD not in files:
        raise RefusedError(f"{RECORD} is not committed: git add --force {RECORD}")
    if version == record.version:
        print(f"Up to date: this project has the template's version {version}.")
        return 0
    if (releases.number(version) or ()) < (releases.number(record.version) or ()):
        raise RefusedError(
            f"this project has {record.version}, and {version} is older: an upgrade does not go back"
        )
    answers = dict(record.answers)
    package = answers.get("package_name", "")
    migrations = between(record.version, version, package)
    for migration in migrations:
        answers = migration.apply(answers)
    with tempfile.TemporaryDirectory() as work:
        old = checkout(_base(record, known), Path(work, "old"))
        new = checkout(known[version], Path(work, "new"))
        prompts = json.loads((new / releases.PLACE).read_text())
        defaults = {name: value for migration in migrations for name, value in migration.defaults.items()}
        answers = complete(prompts, answers, given, defaults, interactive)
        renders = render([(old, record.answers), (new, answers)], Path(work, "renders"))
        scratch = Scratch(Path(work, "scratch"), project)
        label, theirs = f"template-v{version}", owned(version, package)
        made = plan(scratch, files, renders[0], renders[1], label, migrations, theirs)
        print(f"{'Plan for the' if dry_run else 'The'} upgrade from {record.version} to {version}\n")
        print(report(made, releases.changes(ROOT, known[version], record.version)))
        if not dry_run:
            project.put(made, scratch.folder)
            print(outcome(made))
    return 1 if made.unmerged or made.todo else 0


def _releases() -> dict[str, str]:
    known = releases.releases(ROOT)
    if not known:
        raise RefusedError(f"{ROOT} has no release: its history is missing, or no commit has set a version")
    return known


def _base(record: Record, known: Mapping[str, str]) -> str:
    """Return the template's commit that the project was rendered from."""
    if record.commit:
        try:
            return releases.git(ROOT, "rev-parse", "--verify", "--quiet", f"{record.commit}^{{commit}}")
        except subprocess.CalledProcessError:
            print(f"The template lacks commit {record.commit[:12]}: its release {record.version} counts.")
    if record.version not in known:
        raise RefusedError(f"{RECORD}: there is no release {record.version}; releases are {', '.join(known)}")
    return known[record.version]


def checkout(commit: str, folder: Path) -> Path:
    """Put the template as of a commit into a folder of its own, where the hook can read the commit."""
    releases.git(ROOT, "clone", "--quiet", "--shared", "--no-checkout", str(ROOT), str(folder))
    # As committed: on a machine that turns line ends into those of Windows, every line would seem changed.
    releases.git(folder, "-c", "core.autocrlf=false", "checkout", "--quiet", "--detach", commit)
    return folder


def report(made: Plan, changes: str) -> str:
    """Say what happens to each file, after what the changelog says about it."""
    groups = {
        "added": made.added,
        "moved": made.moved,
        "changed": made.changed,
        "deleted": made.deleted,
        "kept deleted (you deleted it, the template changed it)": made.stay_deleted,
        "kept as yours (the template changed what it seeds new projects with)": made.left,
        "imports renamed in files of yours (`make format` sorts them)": made.imports,
        "your settings, by key": made.settings,
        "in conflict": sorted(f"{path}\n        {advice}" for path, advice in made.advice.items()),
        "for you to do": made.todo,
    }
    lines = [changes, ""] if changes else []
    for title, entries in groups.items():
        if entries:
            lines += [f"{title}: {len(entries)}", *(f"    {entry}" for entry in entries)]
    return "\n".join(lines)


def outcome(made: Plan) -> str:
    """Say what is left to do."""
    undo = f"To put everything back: {BACK if 'Makefile' in made.unmerged else f'{HERE} FLAGS=--abort'}"
    if made.unmerged:
        todo = "Conflicts remain: fix the files listed, `git add` or `git rm` each, test, and commit."
    else:
        todo = "All is staged, nothing committed: look at `git diff --cached`, test, and commit."
    return f"\n{todo}\n{undo}"


def with_cookiecutter() -> None:
    """Go on in an environment that has the pinned cookiecutter, made here if need be."""
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    pin = next(line for line in pins if line.startswith("cookiecutter=="))
    try:
        if importlib.metadata.version("cookiecutter") == pin.removeprefix("cookiecutter=="):
            return
    except importlib.metadata.PackageNotFoundError:
        pass
    python = ROOT / ".venv" / "bin" / "python"
    uv = Path(sys.executable).with_name("uv")
    wanted = ["--quiet", "--constraint", str(ROOT / "constraints.txt"), "cookiecutter"]
    if uv.exists():
        subprocess.run(
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, ROOT / ".venv"], check=True
        )
        subprocess.run([uv, "pip", "install", "--python", python, *wanted], check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", "--clear", ROOT / ".venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--disable-pip-version-check", *wanted], check=True)
    os.execv(python, [str(python), str(ROOT / "upgrade"), *sys.argv[1:]])


if __name__ == "__main__":
    if "update" in sys.argv[1:2] and not {"--abort", "--help", "-h"} & set(sys.argv):
        with_cookiecutter()
    sys.exit(main(sys.argv[1:]))
