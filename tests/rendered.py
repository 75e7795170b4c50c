"""Rendered repositories on this machine: where they are installed, and how their Makefiles are called."""

import hashlib
import os
import subprocess
import tomllib
from pathlib import Path

from bake import ROOT


def environment(project: Path) -> Path:
    """Return where the repository's dependencies are installed: a folder for each set, kept for reruns."""
    pyproject = tomllib.loads((project / "pyproject.toml").read_text())
    wanted = [pyproject["project"].get(key) for key in ("dependencies", "optional-dependencies")]
    wanted += [pyproject.get("dependency-groups"), (project / "constraints.txt").read_text()]
    digest = hashlib.sha256(repr(wanted).encode()).hexdigest()
    return ROOT / "build" / f"venv-{digest[:8]}"


def make(project: Path, *targets: str) -> None:
    """Run make there as a person would, without what this test's own make and pytest have set."""
    ours = ("MAKE", "MFLAGS", "PYTEST_", "VIRTUAL_ENV")
    settings = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    settings["MYPY_CACHE_DIR"] = f"{environment(project)}/mypy"
    command = ["make", *targets, f"VENV={environment(project)}"]
    subprocess.run(command, cwd=project, env=settings, stdin=subprocess.DEVNULL, check=True)
