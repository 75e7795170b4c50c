"""Rendered repositories at work: each is installed and runs its own checks, by its own Makefile."""

import subprocess
from pathlib import Path

import pytest
from bake import PROMPTS, bake
from pre_gen_project import INSTALLED
from rendered import environment, make

# One process for all of them: they share environments, and each keeps both cores busy by itself.
pytestmark = pytest.mark.xdist_group("rendered projects")

IMPORT_NAMES = """
import importlib.metadata as metadata
print(*(name for name in metadata.packages_distributions() if name.isidentifier()))
print(*(distribution.metadata["Name"] for distribution in metadata.distributions()))
"""


# Working in a repository leaves caches and data in it, so none of these is a render that others share.
@pytest.mark.parametrize("problem_type", PROMPTS["problem_type"])
def test_its_own_lint_and_tests_pass(template: Path, tmp_path: Path, problem_type: str) -> None:
    make(bake(template, tmp_path, {"problem_type": problem_type}), "lint", "test")


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
