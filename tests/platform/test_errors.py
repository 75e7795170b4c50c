"""What a user can mend is a UserError: one message and exit code 1. Anything else is a traceback."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest

import mlplatform
from mlplatform.cli import main
from mlplatform.errors import UserError


def ours() -> Iterator[type[BaseException]]:
    """Every exception that the platform defines."""
    for module in pkgutil.walk_packages(mlplatform.__path__, "mlplatform."):
        for item in vars(importlib.import_module(module.name)).values():
            if isinstance(item, type) and issubclass(item, BaseException) and item.__module__ == module.name:
                yield item


# A name with an underscore is that of an error which never leaves its module.
ERRORS = sorted({error for error in ours() if error.__name__[0] != "_"}, key=lambda error: error.__name__)


def failing(error: BaseException) -> Callable[[], Any]:
    """A project that cannot be loaded."""

    def load() -> NoReturn:
        raise error

    return load


@pytest.fixture(autouse=True)
def command(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that loads the project."""
    monkeypatch.setattr("sys.argv", ["tiny", "status"])


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_an_error_of_the_platform_is_one_message_and_exit_code_1(
    error: type[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    assert issubclass(error, UserError)
    with pytest.raises(SystemExit) as end:
        main(failing(error("conf/prod.yml: what is wrong: what to do")))
    assert end.value.code == 1
    assert capsys.readouterr() == ("", "conf/prod.yml: what is wrong: what to do\n")


@pytest.mark.parametrize("error", [KeyError("name"), LookupError("name"), PermissionError("name"), ValueError("name")])
def test_a_mistake_in_code_is_not_taken_for_one_of_the_users(error: Exception) -> None:
    with pytest.raises(type(error), match="name"):
        main(failing(error))
