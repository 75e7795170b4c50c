"""Render the template the way its users get it: from an export of the repository, without caches.

As a script it brings a folder up to date with the template: see python tests/bake.py --help.
"""

import argparse
import filecmp
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from cookiecutter.main import cookiecutter

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = "{{cookiecutter.project_slug}}"
PROMPTS = json.loads((ROOT / "cookiecutter.json").read_text())
# Of a rendered repository's folders, those that a new render leaves alone.
KEPT = {".git", ".venv", "data"}


def export(folder: Path) -> Path:
    """Copy what git tracks or would track, as it is in the working tree, and return the copy's folder.

    A linter's cache inside the template would stop the render, and never reaches a user.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in listing.split("\0"):
        if name.startswith((TEMPLATE, "hooks/", "cookiecutter.json")) and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def bake(template: Path, output: Path, answers: dict[str, str]) -> Path:
    """Render `template` into a new folder inside `output` and return that folder.

    Raises KeyError for an answer that no prompt asks for: cookiecutter would ignore it.
    """
    unknown = answers.keys() - PROMPTS.keys()
    if unknown:
        raise KeyError(f"no prompt asks for {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as replays:
        project = cookiecutter(
            str(template),
            no_input=True,
            extra_context=answers,
            output_dir=str(output),
            # A dictionary counts as "the defaults, but": without it a replay lands in the home folder.
            default_config={"replay_dir": replays},
        )
    return Path(project)


def update(folder: Path, answers: dict[str, str]) -> None:
    """Make `folder` hold a fresh render, besides what KEPT names; what stays the same is not touched."""
    with tempfile.TemporaryDirectory() as work:
        project = bake(export(Path(work, "template")), Path(work), answers)
        fresh = {path.relative_to(project) for path in project.rglob("*") if path.is_file()}
        folder.mkdir(parents=True, exist_ok=True)
        for top in [path for path in folder.iterdir() if path.name not in KEPT]:
            for path in [top, *top.rglob("*")]:
                if path.is_file() and path.relative_to(folder) not in fresh:
                    path.unlink()
        for name in fresh:
            target = folder / name
            if not (target.is_file() and filecmp.cmp(project / name, target, shallow=False)):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(project / name, target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make FOLDER a fresh render; its data, .git and .venv stay.")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("answers", nargs="*", metavar="PROMPT=ANSWER", help="those that are not the defaults")
    given = parser.parse_args()
    if given.folder.is_dir() and any(given.folder.iterdir()) and not (given.folder / "src").is_dir():
        parser.error(f"{given.folder} holds something else than a render, and it would go")
    update(given.folder, dict(answer.split("=", 1) for answer in given.answers))
