"""A small world to test in: a temporary project with real tables, a real MLflow database and a champion in prod."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from {{ cookiecutter.package_name }}.environment import Environment
from {{ cookiecutter.package_name }}.lakehouse.settings import Settings as LakehouseSettings

# Threads that spin while they wait fight over the cores of a small machine; figures need no screen.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("MPLBACKEND", "agg")

CONF = Path(__file__).resolve().parents[1] / "conf"
BUDGET = Path(__file__).with_name("settings.yml")
LoadEnv = Callable[..., Environment]
Duplicate = Callable[[Path, Path], Path]


def settings() -> dict[str, Any]:
    """conf/test.yml: the project's own settings on the small budget of tests/settings.yml, where anything runs."""
    base, budget = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in (CONF / "base.yml", BUDGET))
    least = budget["training"]["min_rows"]
    limits = base["registry"]["compliance"]["slice_limits"]
    few = [limit | {"min_rows": min(limit["min_rows"], least)} for limit in limits]
    budget["registry"]["compliance"] = {"slice_limits": few}
    return dict(budget)


@pytest.fixture(scope="session")
def now() -> datetime:
    """The logical time of `world`: it knows nothing later."""
    from {{ cookiecutter.package_name }}.usecase.replay import START

    return START + timedelta(days=73)


@pytest.fixture(scope="session")
def load_env() -> LoadEnv:
    """load_env(name, project, *overlays): an environment of a project, with conf/test.yml and more on top."""

    def load(name: str, project: Path, *overlays: str) -> Environment:
        return Environment.load(name, project, overlays=("test", *overlays))

    return load


@pytest.fixture(scope="session")
def small_model() -> Iterator[None]:
    """Models of few trees, which are quick to fit, to explain and to load."""
    from {{ cookiecutter.package_name }}.usecase import model

    with pytest.MonkeyPatch.context() as patch:
        if "max_iter" in model.DEFAULTS:
            patch.setattr(model, "DEFAULTS", {**model.DEFAULTS, "max_iter": 40})
        yield


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, load_env: LoadEnv, now: datetime, small_model: None) -> Path:
    """A project whose prod has ten weeks of data, features, and a version that waits at the gates.

    Not to be changed: tests copy it.
    """
    # Not at the top: unit tests need none of this, and it takes seconds to import.
    from {{ cookiecutter.package_name }}.pipelines.featurize import featurize
    from {{ cookiecutter.package_name }}.pipelines.ingest import ingest
    from {{ cookiecutter.package_name }}.pipelines.train import train
    from {{ cookiecutter.package_name }}.usecase.replay import land

    project = _start(tmp_path_factory.mktemp("trained"))
    prod = load_env("prod", project)
    land(project / prod.settings(LakehouseSettings).landing, now)
    ingest(prod, now)
    featurize(prod, now)
    train(prod, now, reason="first model")
    return project


@pytest.fixture(scope="session")
def world(trained: Path, tmp_path_factory: pytest.TempPathFactory, load_env: LoadEnv, now: datetime) -> Path:
    """The same after the gates: version 1 is prod's champion. Not to be changed."""
    from {{ cookiecutter.package_name }}.pipelines.deploy import deploy
    from {{ cookiecutter.package_name }}.registry.store import Registry

    project = _duplicate(trained, tmp_path_factory.mktemp("world") / "project")
    prod = load_env("prod", project)
    outcome = deploy(prod, now)
    assert Registry(prod).ledger.champion(now) == 1, outcome.notes
    return project


@pytest.fixture(scope="session")
def duplicate() -> Duplicate:
    """duplicate(project, target): a copy of a project, to go on with or to break."""
    return _duplicate


@pytest.fixture
def blank(tmp_path: Path) -> Path:
    """A project with settings and no data."""
    return _start(tmp_path / "blank")


@pytest.fixture
def project(world: Path, tmp_path: Path) -> Path:
    """A copy of `world` of the test's own, to go on with or to break."""
    return _duplicate(world, tmp_path / "project")


@pytest.fixture
def prod(project: Path, load_env: LoadEnv) -> Environment:
    """prod of the test's own project."""
    return load_env("prod", project)


def _start(folder: Path) -> Path:
    """Give a folder what makes it a project: conf/, with conf/test.yml."""
    shutil.copytree(CONF, folder / "conf")
    (folder / "conf" / "test.yml").write_text(yaml.safe_dump(settings()), encoding="utf-8")
    return folder


def _duplicate(project: Path, target: Path) -> Path:
    """Copy a project; MLflow's database holds absolute paths, which are made to name the copy."""
    shutil.copytree(project, target)
    for database in target.glob("data/mlflow/*.db"):
        with closing(sqlite3.connect(database)) as connection, connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (table,) in tables:
                columns = connection.execute(f"SELECT name, type FROM pragma_table_info('{table}')").fetchall()
                for column in [name for name, kind in columns if kind.startswith(("VARCHAR", "TEXT"))]:
                    connection.execute(
                        f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) WHERE instr("{column}", ?)',
                        (str(project), str(target), str(project)),
                    )
    return target
