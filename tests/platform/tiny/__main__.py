"""The command line: `python -m` and the installed command."""

from typing import TYPE_CHECKING

from mlplatform.cli import main as run

if TYPE_CHECKING:
    from mlplatform.contract import Deliveries, Project


def load() -> "tuple[Project, Deliveries]":
    """Called by the commands that need it, so that --help answers at once."""
    from .deliveries import DELIVERIES
    from .project import PROJECT

    return PROJECT, DELIVERIES


def main() -> None:
    run(load)


if __name__ == "__main__":
    main()
