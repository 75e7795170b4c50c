"""The demonstration leaves alone what it did not make."""

from pathlib import Path

import pytest
from rich.console import Console

from mlplatform.delivery.demo import begin
from mlplatform.errors import UserError

QUIET = Console(quiet=True)


def test_it_refuses_to_begin_beside_tables_that_it_did_not_make(tmp_path: Path) -> None:
    (tmp_path / "prod").mkdir()
    with pytest.raises(UserError, match="holds data that the demo did not make"):
        begin(tmp_path, "v0.1.0", QUIET)
    assert (tmp_path / "prod").is_dir()


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
