"""A small world to test in: a temporary project with real tables, a real MLflow database and a champion in prod."""

import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from post_gen_project import PLATFORM

import mlplatform
from mlplatform.environment import Environment
from stores import STORES, Store

# A machine's clock may show any time: what takes it for UTC would go unseen where it does.
os.environ["TZ"] = "America/St_Johns"
time.tzset()

# Threads that spin while they wait fight over the cores of a small machine; figures need no screen.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("MPLBACKEND", "agg")

CONF = Path(__file__).with_name("conf")
LoadEnv = Callable[..., Environment]
Duplicate = Callable[[Path, Path], Path]


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """In a project (`make test-platform` there), leave out tests of files that its choices do without."""
    if collection_path.is_dir():
        named = collection_path.name in PLATFORM
        return True if named and not (Path(mlplatform.__path__[0]) / collection_path.name).exists() else None
    if collection_path.suffix != ".py":
        return None
    names = re.findall(r"^from mlplatform\.([\w.]+) import", collection_path.read_text(encoding="utf-8"), re.MULTILINE)
    paths = [name.replace(".", "/") for name in names]
    parts = {part for path in paths for part in (f"{path}.py", path.partition("/")[0])} & set(PLATFORM)
    return True if any(not (Path(mlplatform.__path__[0]) / part).exists() for part in parts) else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How much a campaign has tried."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{report.nodeid}: {name} {value}")


@pytest.fixture(scope="session")
def now() -> datetime:
    """The logical time of `world`: it knows nothing later."""
    from tiny.deliveries import START

    return START + timedelta(days=73)


@pytest.fixture(scope="session")
def load_env() -> LoadEnv:
    """load_env(name, folder, *overlays): an environment of a project, with conf/test.yml and more on top."""
    from tiny.project import PROJECT

    def load(name: str, folder: Path, *overlays: str) -> Environment:
        return Environment.load(name, PROJECT, folder, overlays=("test", *overlays))

    return load


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, load_env: LoadEnv, now: datetime) -> Path:
    """A project whose prod has ten weeks of data, features, and a version that waits at the gates.

    Not to be changed: tests copy it.
    """
    # Not at the top: most tests need none of this, and it takes seconds to import.
    from mlplatform.pipelines.featurize import featurize
    from mlplatform.pipelines.ingest import ingest
    from mlplatform.pipelines.train import train
    from tiny.deliveries import land

    project = _start(tmp_path_factory.mktemp("trained"))
    prod = load_env("prod", project)
    land(project / prod.config.lakehouse.landing, now)
    ingest(prod, now)
    featurize(prod, now)
    train(prod, now, reason="first model")
    return project


@pytest.fixture(scope="session")
def world(trained: Path, tmp_path_factory: pytest.TempPathFactory, load_env: LoadEnv, now: datetime) -> Path:
    """The same after the gates: version 1 is prod's champion. Not to be changed."""
    from mlplatform.pipelines.deploy import deploy
    from mlplatform.registry.store import Registry

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


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[str], Store]]:
    """servers(kind): the object store of a kind, which is started when it is first asked for."""
    with ExitStack() as running:
        yield cache(lambda kind: running.enter_context(STORES[kind]()))


@pytest.fixture
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, servers: Callable[[str], Store]) -> Store:
    """An object store, S3 unless the test names others, with its keys in the environment."""
    found = servers(getattr(request, "param", "s3"))
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture(params=[pytest.param(1, marks=pytest.mark.nightly), 3], ids=["each write", "each third write"])
def stride(request: pytest.FixtureRequest) -> int:
    """Of how many writes a test that kills after one is to try one: all of them by night."""
    return int(request.param)


@pytest.fixture
def no_git_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Git looks for no repository above the test's folder, and listens to no settings but its own."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)


def git(folder: Path, *arguments: str) -> str:
    """What git answers."""
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path) -> str:
    """Commit all that is there and return the commit."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "a change")
    return git(folder, "rev-parse", "HEAD")


def _start(folder: Path) -> Path:
    """Give a folder what makes it a project: conf/, with conf/test.yml."""
    shutil.copytree(CONF, folder / "conf")
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
