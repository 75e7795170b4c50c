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
from matrix import CHOICES, DEFAULTS, EVERYTHING, NAMED
from pre_gen_project import installed
from rendered import environment, make
from test_bundle import commands, read

IMPORT_NAMES = """
import importlib.metadata as metadata
print(*(name for name in metadata.packages_distributions() if name.isidentifier()))
print(*(distribution.metadata["Name"] for distribution in metadata.distributions()))
"""


def linted(project: Path) -> str:
    """Identifies what lint and types depend on beside the platform, which `make lint` checks in place."""
    pyproject = tomllib.loads((project / "pyproject.toml").read_text())
    metadata = pyproject["project"] | {"license": None, "description": None, "authors": None}
    digest = hashlib.sha256(repr(pyproject | {"project": metadata}).encode())
    digest.update((project / "constraints.txt").read_bytes())
    for path in sorted(project.rglob("*.py")):
        if not path.is_relative_to(project / "src" / "mlplatform"):
            digest.update(str(path.relative_to(project)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


CLEAN: set[str] = set()


@pytest.fixture(scope="module")
def everything(render: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment in which any row can be looked at: an installation for each would take longer."""
    project = tmp_path_factory.mktemp("everything") / "project"
    shutil.copytree(render(**EVERYTHING), project)
    make(project, "setup")
    return environment(project)


# Working in a repository leaves caches and data in it, so each of these works in a copy of its own.


@pytest.mark.projects
@pytest.mark.xdist_group("lint")  # one process knows what has been linted
def test_its_own_lint_and_check_pass(variant: Path, everything: Path, tmp_path: Path) -> None:
    """Every row; of rows whose own Python is the same one is linted."""
    project = Path(shutil.copytree(variant, tmp_path / "project"))
    make(project, "check", venv=everything)
    if linted(variant) not in CLEAN:
        make(project, "lint", venv=everything)
        CLEAN.add(linted(variant))


NUMBER = "NUMBER: int = PROJECT.package"
TYPES = [("early_warning/project.py", NUMBER, "project.py:34: error: Incompatible types")]
IMPORTS = [  # upward, of the owner's, and past the seam
    ("mlplatform/errors.py", "mlplatform.config.loading", "mlplatform.errors -> mlplatform.config.loading"),
    ("mlplatform/revision.py", "early_warning.project", "mlplatform.revision -> early_warning.project"),
    ("mlplatform/features/__init__.py", "duckdb", "mlplatform.features -> duckdb"),
]


@pytest.mark.parametrize("edits", [TYPES, IMPORTS], ids=["a wrong type", "imports"])
def test_what_its_lint_refuses(
    render: Callable[..., Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    edits: list[tuple[str, str, str]],
) -> None:
    project = Path(shutil.copytree(render(sample="none"), tmp_path / "project"))
    for name, line, _ in edits:
        with (project / "src" / name).open("a") as module:
            module.write(f"\n\n{line if ':' in line else f'import {line}  # noqa: E402, F401'}\n")
    with pytest.raises(subprocess.CalledProcessError):
        make(project, "lint")
    said = capfd.readouterr().out
    assert [told for _, _, told in edits if told not in said] == [], said


@pytest.mark.projects
@pytest.mark.parametrize("name", NAMED)
def test_its_own_tests_pass(template: Path, tmp_path: Path, name: str) -> None:
    make(bake(template, tmp_path, NAMED[name]), "check", "test")


@pytest.mark.projects
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


@pytest.mark.projects
def test_the_jobs_of_the_bundle_do_their_work(template: Path, tmp_path: Path) -> None:
    """On DuckDB: each command line as a task has it in dev, with nothing laid on top of dev's settings."""
    project = bake(template, tmp_path, NAMED["databricks"])
    (project / "conf" / "databricks.yml").write_text("{}")
    make(project, "setup")
    lines = commands(read(project), "dev")
    python = [str(environment(project) / "bin" / "python"), "-m", "early_warning"]
    search = os.environ | {"PYTHONPATH": "src", "AS_OF": "2025-04-01"}

    def run(*words: str) -> str:
        return subprocess.check_output([*python, *words], cwd=project, env=search, text=True)

    run("land")
    for task in ("feature_refresh.refresh", "training.train", "training.validate_and_deploy"):
        run(*lines[task])
    for task in ("batch_inference.infer", "monitor.monitor", "maintenance.maintain"):
        run(*lines[task])
    status = run("status")
    assert "champion: dev.early_warning version 1" in status
    approve = ["1" if word == "17" else word for word in lines["deployment.approval"]]
    assert "version 1 is in Production already" in run(*approve)
    command = [*python, *lines["monitor.due"]]
    due = subprocess.run(command, cwd=project, env=search, stderr=subprocess.PIPE, text=True)
    assert "due = false is for the next task of a job in Databricks" in " ".join(due.stderr.split())
    for pipeline in ("ingest", "featurize", "train", "deploy", "infer", "monitor"):
        assert pipeline in status
    assert "ops.lease" not in run("sql")


def test_the_wheel_of_the_bundle_brings_its_settings(template: Path, tmp_path: Path) -> None:
    project = bake(template, tmp_path, NAMED["databricks"])
    make(project, "wheel")
    (wheel,) = (project / "dist").glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "installed", "zip")
    python = environment(project) / "bin" / "python"
    command = [str(python), "-m", "early_warning", "--conf", "databricks", "delivery", "schedules"]
    away = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    assert "JOB=refresh" in subprocess.check_output(command, cwd=tmp_path, env=away, text=True)


def test_no_project_can_take_the_name_of_what_it_installs(template: Path, tmp_path: Path) -> None:
    project = bake(template, tmp_path, {})
    make(project, "setup")
    python = environment(project) / "bin" / "python"
    names = subprocess.check_output([python, "-c", IMPORT_NAMES], text=True).split()
    public = {name.lower().replace("-", "_") for name in names if name[0].isalpha()}
    # The environment is shared with the platform's tests and with other use cases, which need these.
    others = {"confluent_kafka", "httpcore", "httptools", "httpx", "lightgbm", "orjson", "prometheus_client"}
    others |= {
        "grpc",
        "grpc_status",
        "grpcio",
        "grpcio_status",
        "psycopg",
        "psycopg_binary",
        "redis",
        "uvloop",
    }
    others |= {"vega_datasets", "zstandard"}
    others |= {"images"}  # pictures of azure-identity's, no package: a project of this name comes first
    others |= {project.name.replace("-", "_")}
    assert public - installed(DEFAULTS) - others == set()
