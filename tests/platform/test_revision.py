"""Released code: the root of a clean checkout at a release tag, or an installed release; nothing else passes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

import tiny
from conftest import CONF, commit, git
from mlplatform import revision
from mlplatform.environment import Environment
from mlplatform.revision import NotReleasedError
from mlplatform.storage.ops import RUNS
from tiny.project import PROJECT

pytestmark = pytest.mark.usefixtures("no_git_around")

PLATFORM = Path(str(revision.__file__)).parent
RunFrom = Callable[[Path], None]
Install = Callable[..., None]


@pytest.fixture
def run_from(monkeypatch: pytest.MonkeyPatch) -> RunFrom:
    """run_from(folder): the platform runs from this folder."""
    return lambda folder: monkeypatch.setattr(revision, "__file__", str(folder / "revision.py"))


@pytest.fixture
def checkout(tmp_path: Path, run_from: RunFrom) -> Path:
    """A project folder whose source the platform runs from."""
    source = tmp_path / "checkout" / "src" / "mlplatform"
    source.mkdir(parents=True)
    shutil.copy(PLATFORM / "revision.py", source)
    run_from(source)
    return tmp_path / "checkout"


@pytest.fixture
def repository(checkout: Path) -> Path:
    """The same, as a git repository with one commit."""
    git(checkout, "init", "--quiet")
    commit(checkout)
    return checkout


def refusal(project: Path) -> str:
    with pytest.raises(NotReleasedError) as caught:
        revision.released_version(project)
    return str(caught.value)


def test_a_clean_checkout_at_a_release_tag_is_released(repository: Path) -> None:
    git(repository, "tag", "v1.2.0")
    assert revision.released_version(repository) == "v1.2.0"
    assert revision.code_version(repository) == "v1.2.0"


def test_a_commit_without_a_tag_is_refused(repository: Path) -> None:
    assert refusal(repository).startswith("HEAD carries no release tag: `git tag v<number>`")


def test_a_commit_after_the_release_is_refused_and_named(repository: Path) -> None:
    git(repository, "tag", "--annotate", "v1.2.0", "--message", "release")
    commit(repository)
    assert "no release tag" in refusal(repository)
    assert revision.code_version(repository).startswith("v1.2.0-1-g")


@pytest.mark.parametrize("tag", ["latest", "vnext", "1.2.0"])
def test_a_tag_that_is_no_release_is_refused(repository: Path, tag: str) -> None:
    git(repository, "tag", tag)
    assert "no release tag" in refusal(repository)


def test_a_changed_file_is_refused(repository: Path) -> None:
    git(repository, "tag", "v1.2.0")
    with (repository / "src" / "mlplatform" / "revision.py").open("a", encoding="utf-8") as file:
        file.write("# a quick fix\n")
    assert refusal(repository) == "1 uncommitted changes: commit them and tag a release"
    assert revision.code_version(repository) == "v1.2.0-dirty"


@pytest.mark.parametrize("code", ["v1.2.0-1-g3f2a-dirty", "v1.2.0-dirty", "uncommitted", "0.dev0", "0.0.0.dev0"])
def test_code_with_changes_beside_its_commit_cannot_be_found(code: str) -> None:
    assert not revision.can_be_found(code)
    assert not revision.can_be_found("1.2.1.dev3+g3f2a001.d20250301")  # a wheel that was built so
    assert revision.can_be_found("1.2.1.dev3+g3f2a001")


def test_a_new_file_is_refused(repository: Path) -> None:
    git(repository, "tag", "v1.2.0")
    (repository / "src" / "mlplatform" / "extra.py").touch()
    assert "1 uncommitted changes" in refusal(repository)


def test_an_ignored_file_is_no_change(repository: Path) -> None:
    (repository / ".gitignore").write_text("/data/\n", encoding="utf-8")
    commit(repository)
    git(repository, "tag", "v1.2.0")
    (repository / "data").mkdir()
    (repository / "data" / "rows.csv").touch()
    assert revision.released_version(repository) == "v1.2.0"


@pytest.fixture
def folder(tmp_path: Path, checkout: Path) -> Path:
    """The project as a folder of a repository, beside another one."""
    shutil.copytree(checkout, tmp_path / "other")
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    return checkout


def test_a_folder_of_a_repository_has_releases_of_its_own(tmp_path: Path, folder: Path, run_from: RunFrom) -> None:
    for tag in ("v1.2.0", "other/v1.3.0", "checkout/vnext"):
        git(tmp_path, "tag", tag)
        assert (
            refusal(folder)
            == "HEAD carries no release tag: `git tag checkout/v<number>` on a commit whose checks passed"
        )
        assert "v1" not in revision.code_version(folder)
    git(tmp_path, "tag", "checkout/v1.4.0")
    assert revision.released_version(folder) == revision.code_version(folder) == "v1.4.0"
    run_from(tmp_path / "other" / "src" / "mlplatform")
    assert revision.released_version(tmp_path / "other") == revision.code_version(tmp_path / "other") == "v1.3.0"


def test_only_changes_of_the_folder_count(tmp_path: Path, folder: Path) -> None:
    git(tmp_path, "tag", "checkout/v1.4.0")
    (tmp_path / "other" / "new.txt").touch()
    (tmp_path / "other" / "src" / "mlplatform" / "revision.py").write_text("", encoding="utf-8")
    assert revision.released_version(folder) == revision.code_version(folder) == "v1.4.0"
    (folder / "new.txt").touch()
    assert refusal(folder) == "1 uncommitted changes: commit them and tag a release"


def test_a_folder_that_the_repository_around_it_does_not_keep_is_refused(tmp_path: Path, folder: Path) -> None:
    git(tmp_path, "rm", "--cached", "-r", "--quiet", "checkout")
    (tmp_path / ".gitignore").write_text("/checkout/\n", encoding="utf-8")
    commit(tmp_path)
    git(tmp_path, "tag", "checkout/v1.4.0")
    assert refusal(folder) == "checkout is not in a git checkout: commit it and tag a release"


def test_a_folder_without_a_repository_is_refused(checkout: Path) -> None:
    assert "checkout is not in a git checkout" in refusal(checkout)
    assert revision.code_version(checkout) == "uncommitted"


def test_a_repository_without_a_commit_is_refused(checkout: Path) -> None:
    git(checkout, "init", "--quiet")
    assert "uncommitted changes" in refusal(checkout)
    assert revision.code_version(checkout) == "uncommitted"


def test_without_git_nothing_is_released(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(repository, "tag", "v1.2.0")
    monkeypatch.setenv("PATH", "")
    assert "checkout is not in a git checkout" in refusal(repository)
    assert revision.code_version(repository) == "uncommitted"


@pytest.fixture
def install(tmp_path: Path, run_from: RunFrom, monkeypatch: pytest.MonkeyPatch) -> Install:
    """install(version): the platform runs from where a wheel of this version was installed.

    `starts` is what the command that the wheel brings calls.
    """
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(site)
    run_from(site / "mlplatform")

    def install(version: str, starts: str = "tiny.__main__:main") -> None:
        record(site, version, starts)

    return install


def record(site: Path, version: str, starts: str) -> None:
    """Write what pip records of a wheel."""
    folder = site / f"tiny-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n")
    (folder / "entry_points.txt").write_text(f"[console_scripts]\ntiny = {starts}\n")


def test_an_installed_release_is_released(tmp_path: Path, install: Install) -> None:
    install("1.2.0")
    assert revision.released_version(tmp_path) == "1.2.0"
    assert revision.code_version(tmp_path) == "1.2.0"


@pytest.mark.parametrize("version", ["1.2.1.dev3", "1.2.0+g1234567"])
def test_an_installed_development_version_is_refused(tmp_path: Path, install: Install, version: str) -> None:
    install(version)
    with pytest.raises(NotReleasedError, match="is not a release: install a released wheel"):
        revision.released_version(tmp_path)


def test_a_wheel_that_is_installed_elsewhere_says_nothing_about_the_code_that_runs(
    tmp_path: Path, install: Install, run_from: RunFrom
) -> None:
    install("1.2.0")
    run_from(tmp_path / "another site" / "mlplatform")
    assert revision.code_version(tmp_path) == "0.dev0"
    assert "0.dev0 is not a release" in refusal(tmp_path)


def test_a_wheel_is_known_by_the_command_that_starts_the_owners_package(tmp_path: Path, install: Install) -> None:
    """Another library beside it, in the same folder, has commands as well."""
    install("9.9.9", starts="other.cli:main")
    assert revision.code_version(tmp_path) == "0.dev0"


def settings(project: Path, *, released_code_only: bool) -> Environment:
    shutil.copytree(CONF, project / "conf")
    (project / "conf" / "late.yml").write_text(f"pipelines:\n  released_code_only: {released_code_only}\n")
    return Environment.load("prod", PROJECT, project, overlays=("late",))


def test_an_environment_of_released_code_refuses_other_code_before_any_work(tmp_path: Path, install: Install) -> None:
    install("1.2.1.dev3")
    prod = settings(tmp_path, released_code_only=True)
    with (
        pytest.raises(NotReleasedError, match=r"^prod runs released code only .*1\.2\.1\.dev3"),
        prod.run("ingest", datetime(2013, 4, 1)),
    ):
        pytest.fail("the pipeline ran")
    assert prod.catalog.names() == []


def test_an_environment_that_asks_for_no_release_runs_any_code(tmp_path: Path, install: Install) -> None:
    install("1.2.1.dev3")
    prod = settings(tmp_path, released_code_only=False)
    with prod.run("ingest", datetime(2013, 4, 1)) as run:
        run.wrote("silver.prices", 3)
    (row,) = prod.catalog.read(RUNS).to_pylist()
    assert (row["pipeline"], row["status"], row["rows"], row["code"]) == ("ingest", "finished", 3, "1.2.1.dev3")


def test_a_run_that_fails_is_recorded_as_failed(tmp_path: Path, install: Install) -> None:
    install("1.2.0")
    prod = settings(tmp_path, released_code_only=True)
    with pytest.raises(ZeroDivisionError), prod.run("ingest", datetime(2013, 4, 1)):
        _ = 1 / 0
    (row,) = prod.catalog.read(RUNS).to_pylist()
    assert (row["status"], row["error"]) == ("failed", "ZeroDivisionError: division by zero")
    assert prod.last_finished("ingest", before=datetime(2013, 5, 1)) is None


def run_in(project: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(project / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "tiny", *arguments]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def test_prod_runs_a_release_and_refuses_anything_else_before_any_work(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for source in (PLATFORM, Path(str(tiny.__file__)).parent):
        shutil.copytree(source, project / "src" / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(CONF, project / "conf")
    (project / "conf" / "prod.yml").write_text(
        "lakehouse: {root: data/prod}\npipelines: {released_code_only: true}\n", encoding="utf-8"
    )
    (project / ".gitignore").write_text("/data/\n__pycache__/\n", encoding="utf-8")
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
