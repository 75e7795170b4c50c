"""Small templates with several releases, and projects rendered from them, made in temporary repositories."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bake import ROOT

NAME = "{{cookiecutter.project_slug}}"
# What is the owner's in the first release of each.
OWNED = ["conf/"]
# Git and make without this machine's settings, and without those of the make and pytest that run the test.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("GIT_", "MAKE", "MFLAGS", "PYTEST_", "VIRTUAL_ENV"))
} | {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def run(folder: Path, *command: str | Path, settings: Mapping[str, str] | None = None) -> str:
    """Run a command there and return what it prints. Raises CalledProcessError."""
    return subprocess.run(
        command,
        cwd=folder,
        env=ENVIRONMENT | dict(settings or {}),
        check=True,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    ).stdout


def git(folder: Path, *words: str) -> str:
    """Run git there and return what it prints, without the line's end."""
    return run(folder, "git", *words).strip()


def commit(folder: Path, message: str) -> str:
    """Commit all that is there, ignored files aside, and return the commit."""
    git(folder, "add", "--all", ".")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(folder, "rev-parse", "HEAD")


def write(folder: Path, files: Mapping[str, str | bytes | None]) -> None:
    """Write these files there; None deletes."""
    for name, content in files.items():
        path = folder / name
        if content is None:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


class Template:
    """A template in a repository of its own, with the real hook and the real updater."""

    def __init__(self, folder: Path, prompts: Mapping[str, object] | None = None) -> None:
        self.folder = folder
        folder.mkdir()
        git(folder, "init", "--quiet", "--initial-branch=main")
        shutil.copytree(ROOT / "upgrade", folder / "upgrade", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "constraints.txt", folder)
        hook = (ROOT / "hooks" / "post_gen_project.py").read_text()
        start = 'if __name__ == "__main__":'
        write(folder, {"hooks/post_gen_project.py": hook.replace(start, f"PLATFORM = {{}}\n\n{start}")})
        self.prompts = {"project_slug": "tiny", "package_name": "tiny", **(prompts or {})}
        self.migrations: dict[str, object] = {}

    def release(
        self,
        version: str,
        files: Mapping[str, str | bytes | None],
        migration: Mapping[str, object] | None = None,
    ) -> str:
        """Write the files, set the version, commit; return the commit."""
        write(self.folder / NAME, files)
        private = {"_version": version, "_source": str(self.folder)}
        write(self.folder, {"cookiecutter.json": json.dumps(self.prompts | private, indent=2)})
        first = {} if self.migrations else {"owned": OWNED}
        self.migrations[version] = first | dict(migration or {})
        write(self.folder, {"upgrade/migrations.json": json.dumps(self.migrations)})
        return commit(self.folder, f"Release {version}")

    def render(self, output: Path, *answers: str, version: str | None = None) -> Path:
        """Render as a user would, at a release's commit if one is named, and return the project's folder."""
        source = output / "template"
        git(output, "clone", "--quiet", str(self.folder), str(source))
        if version:
            git(source, "checkout", "--quiet", release_commit(self.folder, version))
        command = [
            sys.executable,
            "-m",
            "cookiecutter",
            "--no-input",
            "--default-config",
            str(source),
            *answers,
        ]
        run(output, *command, settings={"HOME": str(output)})
        shutil.rmtree(source)
        return next(path for path in output.iterdir() if (path / ".cruft.json").exists())

    def project(self, output: Path, *answers: str, version: str | None = None) -> Path:
        """Render, and commit the result in a repository of its own."""
        project = self.render(output, *answers, version=version)
        git(project, "init", "--quiet", "--initial-branch=main")
        commit(project, "Render")
        return project

    def upgrade(self, project: Path, *flags: str) -> "Outcome":
        """Run the updater in the project, as `make update-template` does."""
        return Outcome(project, [self.folder / "upgrade", "update", *flags])


def release_commit(template: Path, version: str) -> str:
    """Return the commit that set this version."""
    line = f'-S"_version": "{version}"'
    return git(template, "log", "--format=%H", "--reverse", line, "--", "cookiecutter.json").split()[0]


class Outcome:
    """What came of running a Python program in a project."""

    def __init__(self, project: Path, words: Sequence[str | Path]) -> None:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=project,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        self.code, self.output = done.returncode, done.stdout + done.stderr


def state(project: Path) -> dict[str, object]:
    """Return all that an upgrade could change in a project: files with their modes, index, references."""
    top = Path(git(project, "rev-parse", "--show-toplevel"))
    found: dict[str, object] = {
        path.relative_to(top).as_posix(): (path.stat().st_mode, path.read_bytes())
        for path in top.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(top).parts
    }
    return found | {
        "index": git(project, "ls-files", "--stage"),
        "references": git(project, "for-each-ref"),
        "head": git(project, "rev-parse", "HEAD"),
    }


def tree(project: Path) -> dict[str, bytes]:
    """Return the files of a project, by name, git's own and environments aside."""
    return {
        path.relative_to(project).as_posix(): path.read_bytes()
        for path in project.rglob("*")
        if path.is_file() and not {".git", ".venv"} & set(path.relative_to(project).parts)
    }
