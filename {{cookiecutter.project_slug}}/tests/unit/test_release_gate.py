"""What is released: a commit of the default branch whose checks passed, and nothing else; what it calls for then."""

import os
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from {{ cookiecutter.package_name }}.delivery import host
from {{ cookiecutter.package_name }}.delivery.release import (
    ReleaseError,
    check_out,
    current,
    cut,
    only_prose_changed,
    record,
)
from {{ cookiecutter.package_name }}.environment import Environment

PACKAGE = Environment.__module__.split(".")[0]
PROJECT = Path(__file__).resolve().parents[2]


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def change(folder: Path, name: str) -> str:
    """Commit a change of one file and return the commit."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("a", encoding="utf-8") as file:
        file.write("a change\n")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "a change")
    return git(folder, "rev-parse", "HEAD")


class Checks:
    """The platform: it knows for which commits the checks passed, and keeps the tags that it is asked for."""

    def __init__(self) -> None:
        self.passed: set[str] = set()
        self.tags: list[tuple[str, str]] = []


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    checks = Checks()
    monkeypatch.setattr(host, "checks_passed", lambda commit, branch: commit in checks.passed and branch == "main")
    monkeypatch.setattr(host, "tag", lambda name, commit: checks.tags.append((name, commit)))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(PROJECT.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    return checks


@pytest.fixture
def repository(tmp_path: Path, checks: Checks) -> Path:
    """A clone whose newest commit is on origin/main, with its checks passed."""
    upstream, clone = tmp_path / "upstream", tmp_path / "clone"
    upstream.mkdir()
    git(upstream, "init", "--quiet", "--initial-branch=main")
    checks.passed.add(change(upstream, "first.txt"))
    git(tmp_path, "clone", "--quiet", str(upstream), str(clone))
    return clone


def refusal(repository: Path, checks: Checks, version: str = "v0.2.0") -> str:
    with pytest.raises(ReleaseError) as caught:
        cut(repository, version)
    assert checks.tags == []
    return str(caught.value)


def test_a_commit_whose_checks_passed_is_tagged(repository: Path, checks: Checks) -> None:
    assert checks.tags == []
    commit = cut(repository, "v0.2.0")
    assert checks.tags == [("v0.2.0", commit)]
    assert commit in checks.passed


def test_a_commit_whose_checks_failed_or_never_ran_is_refused(repository: Path, checks: Checks) -> None:
    checks.passed.clear()
    assert "has not passed the checks of main: nothing is released" in refusal(repository, checks)


def test_a_commit_that_is_not_on_the_default_branch_is_refused(repository: Path, checks: Checks) -> None:
    checks.passed.add(change(repository, "second.txt"))
    assert "is not on origin/main" in refusal(repository, checks)


def test_uncommitted_changes_are_refused(repository: Path, checks: Checks) -> None:
    (repository / "new.txt").touch()
    assert "uncommitted changes" in refusal(repository, checks)


@pytest.mark.parametrize("version", ["v0.2.0", "v0.1.9", "v0.1.10"])
def test_a_version_that_is_not_later_than_the_last_one_is_refused(
    repository: Path, checks: Checks, version: str
) -> None:
    git(repository, "tag", "v0.2.0")
    git(repository, "tag", "v0.1.11")
    assert refusal(repository, checks, version) == f"{version} is not later than v0.2.0"


@pytest.mark.parametrize("version", ["0.2.0", "v2", "v0.2.0-rc1", "v0.2.0; rm -r .", ""])
def test_what_is_no_version_is_refused(repository: Path, checks: Checks, version: str) -> None:
    assert "is not a version such as v0.2.0" in refusal(repository, checks, version)


def staging(project: Path) -> Environment:
    (project / "conf").mkdir(exist_ok=True)
    for name in ("base", "staging"):
        (project / "conf" / f"{name}.yml").write_bytes((PROJECT / "conf" / f"{name}.yml").read_bytes())
    (project / ".gitignore").write_text("/data\n", encoding="utf-8")
    change(project, "begin.txt")
    return Environment.load("staging", project)


def deploy(env: Environment, day: int) -> bool:
    return record(Environment.load("staging", env.project), datetime(2013, 4, day))


@pytest.mark.parametrize(
    ("name", "due"),
    [
        (f"src/{PACKAGE}/usecase/feature_sql/view.sql", True),
        (f"src/{PACKAGE}/training/data.py", True),
        (f"src/{PACKAGE}/pipelines/train.py", True),
        ("conf/base.yml.bak", False),
        ("constraints.txt", True),
        (f"src/{PACKAGE}/monitoring/alerts.py", False),
        ("README.md", False),
    ],
)
def test_a_release_calls_for_training_where_features_or_training_changed(
    repository: Path, name: str, due: bool
) -> None:
    env = staging(repository)
    assert deploy(env, 1)  # the first one does
    change(repository, name)
    assert deploy(env, 2) is due
    assert not deploy(env, 3)


def test_an_environment_gets_the_code_that_was_deployed_in_it(repository: Path) -> None:
    env = staging(repository)
    with pytest.raises(ReleaseError, match="nothing is deployed in staging yet"):
        check_out(env)
    deploy(env, 1)
    deployed = git(repository, "rev-parse", "HEAD")
    change(repository, "later.txt")
    assert current(env) == deployed
    assert check_out(env) == deployed
    assert git(repository, "rev-parse", "HEAD") == deployed


def test_only_prose_is_known_for_prose(repository: Path) -> None:
    change(repository, "docs/runbook.md")
    change(repository, "README.md")
    assert only_prose_changed(repository, "origin/main")
    change(repository, f"src/{PACKAGE}/monitoring/report.md")
    assert not only_prose_changed(repository, "origin/main")


def test_no_change_at_all_is_not_taken_for_prose(repository: Path) -> None:
    assert not only_prose_changed(repository, "origin/main")
