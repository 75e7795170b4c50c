"""Rendered repositories at work: each is installed and runs its own checks, by its own Makefile."""

import hashlib
import os
import subprocess
import tomllib
from pathlib import Path

import pytest
from bake import PROMPTS, ROOT, bake
from pre_gen_project import INSTALLED

# One process for all of them: they share environments, and each keeps both cores busy by itself.
pytestmark = pytest.mark.xdist_group("rendered projects")

IMPORT_NAMES = """
import importlib.metadata as metadata
print(*(name for name in metadata.packages_distributions() if name.isidentifier()))
print(*(distribution.metadata["Name"] for distribution in metadata.distributions()))
"""


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
    command = ["make", *targets, f"VENV={environment(project)}"]
    subprocess.run(command, cwd=project, env=settings, stdin=subprocess.DEVNULL, check=True)


# Working in a repository leaves caches and data in it, so none of these is a render that others share.
@pytest.mark.parametrize("problem_type", PROMPTS["problem_type"])
def test_its_own_lint_and_tests_pass(template: Path, tmp_path: Path, problem_type: str) -> None:
    make(bake(template, tmp_path, {"problem_type": problem_type}), "lint", "test")


def test_models_are_promoted_where_that_is_the_pattern(template: Path, tmp_path: Path) -> None:
    project = bake(template, tmp_path, {"deployment_pattern": "deploy_models"})
    tests = "tests/integration/test_promotion.py tests/unit/test_cli.py tests/unit/test_config.py"
    make(project, "lint", "test", f"TESTS={tests}")


def test_no_project_can_take_the_name_of_what_it_installs(template: Path, tmp_path: Path) -> None:
    project = bake(template, tmp_path, {})
    make(project, "setup")
    python = environment(project) / "bin" / "python"
    names = subprocess.check_output([python, "-c", IMPORT_NAMES], text=True).split()
    public = {name.lower().replace("-", "_") for name in names if name[0].isalpha()}
    assert public - INSTALLED - {project.name.replace("-", "_")} == set()


@pytest.mark.browser
def test_its_dashboard_opens_in_a_browser(template: Path, tmp_path: Path) -> None:
    make(bake(template, tmp_path, {}), "test-browser")


@pytest.mark.spark
def test_its_sql_means_the_same_on_spark(template: Path, tmp_path: Path) -> None:
    make(bake(template, tmp_path, {}), "test-spark")
