"""Other use cases in place of the example, by edits of the owner's files and conf/ alone: all stays green."""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from bake import ROOT, bake
from checks import files
from rendered import alone, environment, make

USE_CASES = {
    "seattle_weather": {"problem_type": "regression"},
    "digits": {"problem_type": "multiclass"},
    "breast_cancer": {"problem_type": "binary"},
}
pytestmark = pytest.mark.projects
PACKAGE = "early_warning"
SHOWS_NOTHING = {"PYTHONPATH": "src", "MPLBACKEND": "agg"}
OWNED = (f"src/{PACKAGE}/", "conf/", "tests/", "notebooks/")


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """What the settings are once those of `over` have been written into them."""
    both = dict(under)
    for key, value in over.items():
        below = both.get(key)
        both[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return both


def replace(project: Path, name: str) -> None:
    """Do what an owner does: throw away the example, put in the own files, set the own limits."""
    theirs, package = ROOT / "tests" / "foreign" / name, project / "src" / PACKAGE
    for old in [*package.glob("*.py"), *package.rglob("*.sql")]:
        if old.name not in ("__init__.py", "__main__.py"):
            old.unlink()
    shutil.copytree(theirs / "owner", package, dirs_exist_ok=True)
    for old in (project / "tests").rglob("*.py"):
        if old.name not in ("test_project.py", "conftest.py"):
            old.unlink()
    shutil.copytree(theirs / "tests", project / "tests", dirs_exist_ok=True)
    for layer in sorted(theirs.glob("*.yml")):
        target = project / "conf" / layer.name
        content = merged(yaml.safe_load(target.read_text()), yaml.safe_load(layer.read_text()))
        target.write_text(yaml.safe_dump(content, sort_keys=False))


def outcome(project: Path, query: str) -> str:
    """What a query of prod's tables says, as the command line prints it."""
    command = [str(environment(project) / "bin" / "python"), "-m", PACKAGE, "sql", "--env", "prod", query]
    return subprocess.check_output(command, cwd=project, env=os.environ | {"PYTHONPATH": "src"}, text=True)


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in USE_CASES], scope="module"
)
def foreign(request: pytest.FixtureRequest, template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A blank render in which the example was replaced."""
    answers = {"sample": "none", **USE_CASES[request.param]}
    project = bake(template, tmp_path_factory.mktemp(request.param), answers)
    replace(project, request.param)
    make(project, "setup")
    # One environment serves all: an owner would name the package in pyproject.toml.
    tools = environment(project) / "bin"
    add = f"{tools}/uv pip install --quiet --no-deps --python {tools}/python vega_datasets==0.9.0"
    with alone(environment(project)):
        subprocess.run(add.split(), check=True)
    return project


def test_only_the_owners_files_were_edited(foreign: Path, render: Callable[..., Path]) -> None:
    (name,) = (
        name
        for name in USE_CASES
        if (foreign / "src" / PACKAGE / "tables.py").read_text()
        == (ROOT / "tests" / "foreign" / name / "owner" / "tables.py").read_text()
    )
    fresh = {path: file.read_bytes() for path, file in files(render(sample="none", **USE_CASES[name]))}
    now = {path: file.read_bytes() for path, file in files(foreign)}
    changed = {path for path in fresh | now if fresh.get(path) != now.get(path)}
    assert changed
    assert {path for path in changed if not path.startswith(OWNED)} == set()


def test_it_stays_green_from_check_to_production(foreign: Path) -> None:
    make(foreign, "check", "lint", "test")
    make(foreign, "test-integration", "demo")
    notebook = [str(environment(foreign) / "bin" / "python"), "notebooks/eda.py"]
    subprocess.run(notebook, cwd=foreign, env=os.environ | SHOWS_NOTHING, check=True)
    moves = outcome(foreign, "SELECT status || ' ' || to_stage AS what FROM ops.transitions")
    assert "approved Production" in moves
    table = outcome(foreign, f"SELECT count(*) > 50 AS many FROM predictions.{PACKAGE}")
    assert "true" in table.lower()
    assert (foreign / "data" / "prod" / "dashboard.html").stat().st_size > 10_000
