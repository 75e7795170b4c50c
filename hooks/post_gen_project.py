"""Keep what the answers chose: one table says what belongs to which choice.

Cookiecutter fills in this file before it runs it: doubled braces belong in the last block only.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple


class Option(NamedTuple):
    """What depends on one answer. `<package>` in a path stands for the package's name."""

    choices: tuple[str, ...]  # the same as in cookiecutter.json
    variants: tuple[str, ...] = ()  # in the template once per choice: model.py as model.<choice>.py
    paths: Mapping[str, tuple[str, ...]] = {}  # a file or folder: the choices that have it


OPTIONS = {
    "problem_type": Option(
        choices=("classification", "regression"),
        variants=(
            "src/<package>/usecase/model.py",
            "src/<package>/usecase/labels.sql",
            "tests/model/test_behaviour.py",
        ),
    ),
    "ci_platform": Option(
        choices=("github", "gitlab", "azure_devops", "none"),
        variants=("src/<package>/delivery/host.py",),
        paths={
            ".github": ("github",),
            ".gitlab-ci.yml": ("gitlab",),
            "azure-pipelines": ("azure_devops",),
            "src/<package>/delivery/affected.py": ("github", "azure_devops"),
            "src/<package>/delivery/api.py": ("github", "gitlab", "azure_devops"),
            "src/<package>/delivery/comment.py": ("github", "azure_devops"),
            "src/<package>/delivery/schedules.py": ("github", "gitlab", "azure_devops"),
            "src/<package>/delivery/settings.py": ("github", "gitlab", "azure_devops"),
            "tests/unit/test_pipeline_schedules.py": ("gitlab",),
            "tests/unit/test_schedules.py": ("github", "azure_devops"),
            "tests/unit/test_workflows.py": ("github", "gitlab", "azure_devops"),
        },
    ),
}


def variant(path: str, choice: str) -> str:
    """Return the path that a variant file has in the template."""
    name = PurePosixPath(path)
    return str(name.with_name(f"{name.stem}.{choice}{name.suffix}"))


def prune(project: Path, answers: Mapping[str, str]) -> None:
    """Delete from a fresh render what other answers would have; give variant files their final names.

    What is not there is passed over: the tests see to it that the table names only what the template holds.
    """

    def at(path: str) -> Path:
        return project / path.replace("<package>", answers["package_name"])

    for name, option in OPTIONS.items():
        answer = answers[name]
        for path, choices in option.paths.items():
            if answer not in choices:
                _delete(at(path), project)
        for path in option.variants:
            for choice in option.choices:
                source = at(variant(path, choice))
                if choice != answer:
                    _delete(source, project)
                elif source.exists():
                    source.replace(at(path))


def _delete(path: Path, project: Path) -> None:
    """Delete a file or folder, and the folders that it leaves empty."""
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()
    folder = path.parent
    while folder != project and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


if __name__ == "__main__":
    prune(Path.cwd(), json.loads(r"""{{ cookiecutter | tojson }}"""))
