"""Rendered repositories on this machine: where they are installed, and how their Makefiles are called.

As a script: python tests/rendered.py FOLDER brings FOLDER up to date with the template and installs what it
needs; FOLDER/.venv leads to the environment, which the renders of the tests share.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bake import ROOT, update


def environment(project: Path) -> Path:
    """Return where the repository's dependencies are installed: a folder for each set, kept for reruns."""
    pyproject = tomllib.loads((project / "pyproject.toml").read_text())
    wanted = [pyproject["project"].get(key) for key in ("dependencies", "optional-dependencies")]
    wanted += [pyproject.get("dependency-groups"), (project / "constraints.txt").read_text()]
    digest = hashlib.sha256(repr(wanted).encode()).hexdigest()
    return (ROOT / "build").resolve() / f"venv-{digest[:8]}"


@contextmanager
def alone(venv: Path) -> Iterator[None]:
    """Hold off the other processes that would install into `venv`."""
    venv.parent.mkdir(parents=True, exist_ok=True)
    with venv.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make(project: Path, *targets: str, venv: Path | None = None) -> None:
    """Run make there as a person would, without what this test's own make and pytest have set.

    What it needs is installed once for all that have the same dependencies; they may work beside each other.
    `venv`: an environment that has all of it.
    """
    if not venv:
        venv = environment(project)
        with alone(venv):
            if not (venv / ".ready").exists():
                _make(project, ["setup"], venv)
    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(project / name, (0, 0))  # older than what is installed
    _make(project, targets, venv)


def _make(project: Path, targets: Sequence[str], venv: Path) -> None:
    ours = ("MAKE", "MFLAGS", "PYTEST_", "VIRTUAL_ENV")
    settings = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    # Two that write to one cache at a time have ended mypy without a word.
    settings["MYPY_CACHE_DIR"] = f"{venv}/mypy{os.environ.get('PYTEST_XDIST_WORKER', '')}"
    command = ["make", *targets, f"VENV={venv}"]
    subprocess.run(command, cwd=project, env=settings, stdin=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    project = Path(sys.argv[1]).resolve()
    update(project, {})
    link = project / ".venv"
    if not link.is_symlink() or link.readlink() != environment(project):
        link.unlink(missing_ok=True)
        link.symlink_to(environment(project))
    make(project, "setup")
