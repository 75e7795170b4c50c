"""Released code: the root of a clean checkout at a release tag, or an installed release; nothing else passes."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import ModuleType

import pytest

import {{ cookiecutter.package_name }} as package
from {{ cookiecutter.package_name }} import release
from {{ cookiecutter.package_name }}.environment import RUNS, Environment
from {{ cookiecutter.package_name }}.release import NotReleasedError

ROOT = Path(__file__).resolve().parents[2]
NAME = package.__name__
DISTRIBUTION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
Install = Callable[[str], None]


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "a change")


@pytest.fixture(autouse=True)
def no_git_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Git looks for no repository above the test's folder, and listens to no settings but its own."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A project folder that holds this package's module `release` as its source."""
    project = tmp_path / "checkout"
    source = project / "src" / NAME
    source.mkdir(parents=True)
    shutil.copy(str(release.__file__), source / "release.py")
    return project


@pytest.fixture
def repository(checkout: Path) -> Path:
    """The same, as a git repository with one commit."""
    git(checkout, "init", "--quiet")
    commit(checkout)
    return checkout


def running_from(project: Path) -> ModuleType:
    """The module `release` as code that runs from the sources of `project`."""
    spec = importlib.util.spec_from_file_location(f"{NAME}.release", project / "src" / NAME / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def refusal(project: Path) -> str:
    code = running_from(project)
    with pytest.raises(code.NotReleasedError) as caught:
        code.released_version(project)
    return str(caught.value)


def test_a_clean_checkout_at_a_release_tag_is_released(repository: Path) -> None:
    git(repository, "tag", "v1.2.0")
    code = running_from(repository)
    assert code.released_version(repository) == "v1.2.0"
    assert code.code_version(repository) == "v1.2.0"


def test_a_commit_without_a_tag_is_refused(repository: Path) -> None:
    assert refusal(repository).startswith("HEAD carries no release tag: `git tag v<number>`")


def test_a_commit_after_the_release_is_refused_and_named(repository: Path) -> None:
    git(repository, "tag", "--annotate", "v1.2.0", "--message", "release")
    commit(repository)
    assert "no release tag" in refusal(repository)
    assert running_from(repository).code_version(repository).startswith("v1.2.0-1-g")


@pytest.mark.parametrize("tag", ["latest", "vnext", "1.2.0"])
def test_a_tag_that_is_no_release_is_refused(repository: Path, tag: str) -> None:
    git(repository, "tag", tag)
    assert "no release tag" in refusal(repository)


def test_a_changed_file_is_refused(repository: Path) -> None:
    git(repository, "tag", "v1.2.0")
    with (repository / "src" / NAME / "release.py").open("a", encoding="utf-8") as file:
        file.write("# a quick fix\n")
    assert refusal(repository) == "1 uncommitted changes: commit them and tag a release"
    assert running_from(repository).code_version(repository) == "v1.2.0-dirty"


def test_a_new_file_is_refused(repository: Path) -> None:
    git(repository, "tag", "v1.2.0")
    (repository / "src" / NAME / "extra.py").touch()
    assert "1 uncommitted changes" in refusal(repository)


def test_an_ignored_file_is_no_change(repository: Path) -> None:
    (repository / ".gitignore").write_text("/data/\n", encoding="utf-8")
    commit(repository)
    git(repository, "tag", "v1.2.0")
    (repository / "data").mkdir()
    (repository / "data" / "rows.csv").touch()
    assert running_from(repository).released_version(repository) == "v1.2.0"


def test_a_folder_inside_another_repository_is_refused(tmp_path: Path, checkout: Path) -> None:
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    git(tmp_path, "tag", "v1.2.0")
    assert refusal(checkout) == "checkout is not the root of a git checkout: commit it and tag a release"


def test_a_folder_without_a_repository_is_refused(checkout: Path) -> None:
    assert "not the root of a git checkout" in refusal(checkout)
    assert running_from(checkout).code_version(checkout) == "uncommitted"


def test_a_repository_without_a_commit_is_refused(checkout: Path) -> None:
    git(checkout, "init", "--quiet")
    assert "uncommitted changes" in refusal(checkout)
    assert running_from(checkout).code_version(checkout) == "uncommitted"


def test_without_git_nothing_is_released(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(repository, "tag", "v1.2.0")
    monkeypatch.setenv("PATH", "")
    assert "not the root of a git checkout" in refusal(repository)
    assert running_from(repository).code_version(repository) == "uncommitted"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """install(version): what the record of an installed wheel says, found before any other."""

    def install(version: str) -> None:
        record = tmp_path / "site" / f"{DISTRIBUTION.replace('-', '_')}-{version}.dist-info"
        record.mkdir(parents=True)
        (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {version}\n")
        (record / "entry_points.txt").write_text(f"[console_scripts]\n{DISTRIBUTION} = {NAME}.cli:main\n")
        monkeypatch.syspath_prepend(tmp_path / "site")

    return install


def test_an_installed_release_is_released(tmp_path: Path, install: Install) -> None:
    install("1.2.0")
    assert release.released_version(tmp_path) == "1.2.0"
    assert release.code_version(tmp_path) == "1.2.0"


@pytest.mark.parametrize("version", ["1.2.1.dev3", "1.2.0+g1234567"])
def test_an_installed_development_version_is_refused(tmp_path: Path, install: Install, version: str) -> None:
    install(version)
    with pytest.raises(NotReleasedError, match="is not a release: install a released wheel"):
        release.released_version(tmp_path)


def settings(project: Path, *, released_code_only: bool) -> Environment:
    shutil.copytree(ROOT / "conf", project / "conf")
    (project / "conf" / "test.yml").write_text(f"pipelines:\n  released_code_only: {released_code_only}\n")
    return Environment.load("prod", project, overlays=("test",))


def test_an_environment_of_released_code_refuses_other_code_before_any_work(tmp_path: Path, install: Install) -> None:
    install("1.2.1.dev3")
    prod = settings(tmp_path, released_code_only=True)
    with (
        pytest.raises(NotReleasedError, match=r"^prod runs released code only .*1\.2\.1\.dev3"),
        prod.run("ingest", datetime(2013, 4, 1)),
    ):
        pytest.fail("the pipeline ran")
    assert prod.tables.names() == []


def test_an_environment_that_asks_for_no_release_runs_any_code(tmp_path: Path, install: Install) -> None:
    install("1.2.1.dev3")
    prod = settings(tmp_path, released_code_only=False)
    with prod.run("ingest", datetime(2013, 4, 1)) as run:
        run.wrote("silver.prices", 3)
    (row,) = prod.tables.read(RUNS).to_pylist()
    assert (row["pipeline"], row["status"], row["rows"], row["code"]) == ("ingest", "finished", 3, "1.2.1.dev3")


def test_a_run_that_fails_is_recorded_as_failed(tmp_path: Path, install: Install) -> None:
    install("1.2.0")
    prod = settings(tmp_path, released_code_only=True)
    with pytest.raises(ZeroDivisionError), prod.run("ingest", datetime(2013, 4, 1)):
        _ = 1 / 0
    (row,) = prod.tables.read(RUNS).to_pylist()
    assert (row["status"], row["error"]) == ("failed", "ZeroDivisionError: division by zero")
    assert prod.last_finished("ingest", before=datetime(2013, 5, 1)) is None


def run_in(project: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(project / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", NAME, *arguments]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def test_prod_runs_a_release_and_refuses_anything_else_before_any_work(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for folder in ("src", "conf"):
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (project / "conf" / "prod.yml").write_text(
        "lakehouse: {root: data/prod}\npipelines: {released_code_only: true}\n", encoding="utf-8"
    )
    (project / ".gitignore").write_text("/data/\n", encoding="utf-8")
    git(project, "init", "--quiet")
    commit(project)

    refused = run_in(project, "ingest", "--env", "prod")
    assert refused.returncode == 1
    assert "prod runs released code only (pipelines.released_code_only): HEAD carries no release tag" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (project / "data").exists()

    git(project, "tag", "v1.2.0")
    assert run_in(project, "ingest", "--env", "prod").returncode == 0
    assert "v1.2.0" in run_in(project, "sql", f"select code from {RUNS}", "--env", "prod").stdout
