"""The demonstration leaves alone what it did not make."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from conftest import commit, git
from mlplatform.delivery.demo import begin, make_release
from mlplatform.errors import UserError

QUIET = Console(quiet=True)


class Said(Console):
    """Keeps what is printed, with the tags that the folder had by then."""

    def __init__(self, folder: Path) -> None:
        super().__init__(quiet=True)
        self.folder, self.told = folder, list[tuple[str, str]]()

    def print(self, *said: Any, **_: Any) -> None:
        self.told.append((str(said[0]), git(self.folder, "tag")))


def test_it_refuses_to_begin_beside_tables_that_it_did_not_make(tmp_path: Path) -> None:
    (tmp_path / "prod").mkdir()
    with pytest.raises(UserError, match="holds data that the demo did not make"):
        begin(tmp_path, "v0.1.0", QUIET)
    assert (tmp_path / "prod").is_dir()


@pytest.mark.usefixtures("no_git_around")
def test_it_makes_no_repository_within_one_that_keeps_the_folder(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "project" / "conf").mkdir(parents=True)
    (tmp_path / "project" / "conf" / "base.yml").touch()
    make_release(tmp_path / "project", QUIET)
    assert not (tmp_path / "project" / ".git").exists()
    (tmp_path / ".gitignore").write_text("/project\n", encoding="utf-8")
    commit(tmp_path)
    make_release(tmp_path / "project", QUIET)
    assert git(tmp_path / "project", "tag") == "v0.1.0"


@pytest.mark.usefixtures("no_git_around")
def test_it_makes_the_first_commit_of_a_repository_that_has_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").touch()
    make_release(tmp_path, said := Said(tmp_path))
    assert [tag for _, tag in said.told] == ["", "v0.1.0"]
    assert said.told[0][0].endswith("making this folder a git repository with a commit and a release tag.")
    make_release(tmp_path, QUIET)
    assert git(tmp_path, "tag") == "v0.1.0"


@pytest.mark.usefixtures("no_git_around")
def test_it_leaves_a_repository_of_somebody_else_alone(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    head = commit(tmp_path)
    (tmp_path / "file").touch()
    make_release(tmp_path, QUIET)
    assert (git(tmp_path, "rev-parse", "HEAD"), git(tmp_path, "tag")) == (head, "")


def test_it_begins_beside_the_tables_of_the_integration_test(tmp_path: Path) -> None:
    (tmp_path / "integration").mkdir()
    begin(tmp_path, "v0.1.0", QUIET)
    assert (tmp_path / "integration").is_dir()


def test_it_deletes_what_the_demonstration_of_other_code_made(tmp_path: Path) -> None:
    begin(tmp_path, "v0.1.0", QUIET)
    (tmp_path / "prod").mkdir()
    begin(tmp_path, "v0.1.0", QUIET)
    assert (tmp_path / "prod").is_dir()
    begin(tmp_path, "v0.1.1", QUIET)
    assert not (tmp_path / "prod").exists()
