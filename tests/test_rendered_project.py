"""Rendered repositories at work: each is installed and runs its own checks, by its own Makefile."""

import hashlib
import os
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from bake import bake
from matrix import CHOICES, DEFAULTS, NAMED
from pre_gen_project import installed
from rendered import environment, make

# One process for all of them: they share environments, and each keeps both cores busy by itself.
pytestmark = pytest.mark.xdist_group("rendered projects")

IMPORT_NAMES = """
import importlib.metadata as metadata
print(*(name for name in metadata.packages_distributions() if name.isidentifier()))
print(*(distribution.metadata["Name"] for distribution in metadata.distributions()))
"""


def linted(project: Path) -> str:
    """Identifies all that lint and types depend on: the Python, and the settings of the tools."""
    pyproject = tomllib.loads((project / "pyproject.toml").read_text())
    metadata = pyproject["project"] | {"license": None, "description": None, "authors": None}
    digest = hashlib.sha256(repr(pyproject | {"project": metadata}).encode())
    digest.update((project / "constraints.txt").read_bytes())
    for path in sorted(project.rglob("*.py")):
        digest.update(str(path.relative_to(project)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


CLEAN: set[str] = set()


# Working in a repository leaves caches and data in it, so each of these works in a copy of its own.


def test_its_own_lint_passes(variant: Path, tmp_path: Path) -> None:
    """Style and types of every row; rows whose Python is the same are looked at once."""
    if linted(variant) not in CLEAN:
        make(Path(shutil.copytree(variant, tmp_path / "project")), "lint")
        CLEAN.add(linted(variant))


def test_a_wrong_type_does_not_pass_its_lint(render: Callable[..., Path], tmp_path: Path) -> None:
    project = Path(shutil.copytree(render(sample="none"), tmp_path / "project"))
    (module,) = project.glob("src/*/release.py")
    module.write_text(module.read_text() + "\n\nNUMBER: int = code_version(Path())\n")
    assert linted(project) not in CLEAN
    with pytest.raises(subprocess.CalledProcessError):
        make(project, "lint")


# A year of flights takes minutes: once is enough. The blank project goes through every gate as well.
ANCHORS = ("defaults", "smallest")
# What another kind of label has a say in.
AS_REGRESSION = {
    "regression": ("tests/model", "tests/unit/test_feature_sql.py"),
    "promoted": (
        "tests/model",
        "tests/integration/test_pipelines.py",
        "tests/integration/test_promotion.py",
        "tests/integration/test_retraining.py",
        "tests/unit/test_usecase_sql.py",
    ),
}


@pytest.mark.parametrize("name", ANCHORS)
def test_its_own_tests_pass(template: Path, tmp_path: Path, name: str) -> None:
    make(bake(template, tmp_path, NAMED[name]), "test")


@pytest.mark.parametrize("name", AS_REGRESSION)
def test_its_own_tests_pass_for_a_regression_too(template: Path, tmp_path: Path, name: str) -> None:
    project = bake(template, tmp_path, NAMED[name])
    make(project, "setup")
    command = [f"{environment(project)}/bin/pytest", "-n", "2", "--dist", "loadgroup", *AS_REGRESSION[name]]
    subprocess.run(command, cwd=project, check=True)


@pytest.mark.parametrize("pattern", CHOICES["deployment_pattern"])
def test_the_blank_project_has_a_demonstration(template: Path, tmp_path: Path, pattern: str) -> None:
    """Where models are trained there is a promotion, a refusal, and a training that an alert asked for."""
    project = bake(template, tmp_path, NAMED["smallest"] | {"deployment_pattern": pattern})
    make(project, "demo")
    python = environment(project) / "bin" / "python"
    sql = "SELECT DISTINCT status || ' ' || to_stage || ' ' || request_reason AS what FROM ops.transitions"
    where = {"deploy_code": "prod", "deploy_models": "dev"}[pattern]
    command = [str(python), "-m", "early_warning", "sql", "--env", where, sql]
    table = subprocess.check_output(command, cwd=project, env=os.environ | {"PYTHONPATH": "src"}, text=True)
    assert "approved Production" in table
    assert "rejected Staging" in table
    assert "alert " in table
    assert (project / "data" / "prod" / "dashboard.html").stat().st_size > 10_000


def test_no_project_can_take_the_name_of_what_it_installs(template: Path, tmp_path: Path) -> None:
    project = bake(template, tmp_path, {})
    make(project, "setup")
    python = environment(project) / "bin" / "python"
    names = subprocess.check_output([python, "-c", IMPORT_NAMES], text=True).split()
    public = {name.lower().replace("-", "_") for name in names if name[0].isalpha()}
    assert public - installed(DEFAULTS) - {project.name.replace("-", "_")} == set()
