"""What is released: a commit of the default branch whose checks passed, and nothing else; what it calls for then."""

from datetime import datetime
from pathlib import Path
from typing import cast

import pytest
import yaml

from conftest import CONF, commit, git
from mlplatform.delivery.hosts import Host
from mlplatform.delivery.release import (
    ReleaseError,
    check_out,
    current,
    cut,
    only_prose_changed,
    record,
    refuse_lost_disk,
)
from mlplatform.environment import Environment
from mlplatform.errors import UserError
from steps import overlay
from tiny.project import PROJECT

pytestmark = pytest.mark.usefixtures("no_git_around")


def change(folder: Path, name: str) -> str:
    """Commit a change of one file and return the commit."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("a", encoding="utf-8") as file:
        file.write("a change\n")
    return commit(folder)


class Checks:
    """The CI platform: it knows for which commits the checks passed, and keeps the tags that it is asked for."""

    def __init__(self) -> None:
        self.passed: set[str] = set()
        self.tags: list[tuple[str, str]] = []

    def checks_passed(self, commit: str, branch: str) -> bool:
        return commit in self.passed and branch == "main"

    def tag(self, name: str, commit: str) -> None:
        self.tags.append((name, commit))


@pytest.fixture
def checks() -> Checks:
    return Checks()


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
        cut(repository, version, cast(Host, checks))
    assert checks.tags == []
    return str(caught.value)


def test_a_commit_whose_checks_passed_is_tagged(repository: Path, checks: Checks) -> None:
    assert checks.tags == []
    commit = cut(repository, "v0.2.0", cast(Host, checks))
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


def test_projects_beside_each_other_are_released_apart(repository: Path, checks: Checks) -> None:
    for name in ("one", "two"):
        checks.passed.add(change(repository, f"{name}/src/mlplatform/contract.py"))
    git(repository, "update-ref", "refs/remotes/origin/main", "HEAD")
    for tag in ("v0.9.0", "two/v0.5.0", "one/v0.1.0"):
        git(repository, "tag", tag)
    (repository / "two" / "new.txt").touch()
    commit = cut(repository / "one", "v0.2.0", cast(Host, checks))
    assert checks.tags == [("one/v0.2.0", commit)]
    checks.tags.clear()
    assert "uncommitted changes" in refusal(repository / "two", checks)
    (repository / "two" / "new.txt").unlink()
    assert refusal(repository / "two", checks, "v0.4.0") == "v0.4.0 is not later than v0.5.0"


def test_a_change_of_another_project_calls_for_no_training_and_no_tests(repository: Path) -> None:
    (repository / "one").mkdir()
    env, start = staging(repository / "one"), git(repository, "rev-parse", "HEAD")
    assert deploy(env, 1)
    change(repository, "two/src/tiny/sql/labels.sql")
    change(repository, "src/tiny/sql/labels.sql")
    assert not deploy(env, 2)
    assert only_prose_changed(repository / "one", start)
    change(repository, "one/src/tiny/sql/labels.sql")
    assert not only_prose_changed(repository / "one", start)
    assert deploy(env, 3)


@pytest.mark.parametrize("version", ["0.2.0", "v2", "v0.2.0-rc1", "v0.2.0; rm -r .", ""])
def test_what_is_no_version_is_refused(repository: Path, checks: Checks, version: str) -> None:
    assert "is not a version such as v0.2.0" in refusal(repository, checks, version)


def staging(project: Path) -> Environment:
    (project / "conf").mkdir(exist_ok=True)
    for name in ("base", "staging"):
        (project / "conf" / f"{name}.yml").write_bytes((CONF / f"{name}.yml").read_bytes())
    (project / ".gitignore").write_text("/data\n", encoding="utf-8")
    change(project, "begin.txt")
    return Environment.load("staging", PROJECT, project)


def deploy(env: Environment, day: int) -> bool:
    return record(Environment.load("staging", PROJECT, env.folder), datetime(2013, 4, day))


@pytest.mark.parametrize(
    ("name", "due"),
    [
        ("src/tiny/sql/features/view.sql", True),
        ("src/mlplatform/training/data.py", True),
        ("src/mlplatform/pipelines/train.py", True),
        ("conf/base.yml.bak", False),
        ("constraints.txt", True),
        ("src/mlplatform/monitoring/alerts.py", False),
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
    newer = change(repository, "newer.txt")
    deploy(env, 3)
    change(repository, "of before.txt")
    deploy(env, 2)
    assert current(env) == newer


def test_only_prose_is_known_for_prose(repository: Path) -> None:
    change(repository, "docs/runbook.md")
    change(repository, "README.md")
    assert only_prose_changed(repository, "origin/main")
    licence = change(repository, "LICENSE.py")
    assert not only_prose_changed(repository, "origin/main")
    change(repository, "src/mlplatform/monitoring/report.md")
    assert not only_prose_changed(repository, licence)


def test_no_change_at_all_is_not_taken_for_prose(repository: Path) -> None:
    assert not only_prose_changed(repository, "origin/main")


class Hosted(Checks):
    """A platform whose machine is for one job."""

    def disk_is_lost(self) -> bool:
        return True


AWAY = {
    "lakehouse": {"root": "s3://lake/prod", "landing": "s3://lake/landing"},
    "registry": {"tracking_uri": "https://models.example", "artifacts": "mlflow-artifacts:/"},
}


def test_where_the_disk_is_lost_nothing_may_lie_on_it(blank: Path) -> None:
    for section, name, here in (
        ("lakehouse", "root", "data/prod"),
        ("lakehouse", "landing", "/srv/landing"),
        ("registry", "tracking_uri", "sqlite:///data/mlflow.db"),
        ("registry", "artifacts", "file:///srv/artifacts"),
    ):
        settings = {**AWAY, section: {**AWAY[section], name: here}}
        env = Environment.load("prod", PROJECT, blank, (overlay(blank, "away", settings),))
        with pytest.raises(UserError) as error:
            refuse_lost_disk(env, cast(Host, Hosted()))
        assert f"and with it {section}.{name} ({here}) of prod" in str(error.value)
    env = Environment.load("prod", PROJECT, blank, (overlay(blank, "away", AWAY),))
    refuse_lost_disk(env, cast(Host, Hosted()))


def test_where_the_disk_is_lost_that_holds_for_the_environment_that_trains_as_well(blank: Path) -> None:
    pytest.importorskip("mlplatform.pipelines.promote", reason="this repository deploys code")
    for name, settings in (("prod", {"source": "staging"}), ("staging", {"source": "dev"})):
        conf = blank / "conf" / f"{name}.yml"
        layer = yaml.safe_load(conf.read_text(encoding="utf-8")) | AWAY | {"promotion": settings}
        conf.write_text(yaml.safe_dump(layer), encoding="utf-8")
    env = Environment.load("prod", PROJECT, blank)
    with pytest.raises(UserError, match=r"lakehouse\.root \(data/dev\).* of dev: put addresses into conf/dev\.yml"):
        refuse_lost_disk(env, cast(Host, Hosted()))
