"""What commands share: options, the owner's project, and the way results are printed."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mlplatform.contract import Deliveries, Project
    from mlplatform.environment import Environment, Run

Load = Callable[[], "tuple[Project, Deliveries]"]

EnvOption = Annotated[str, typer.Option("--env", "-e", help="Environment: dev, staging or prod.", envvar="ENV")]
FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]
AsOfOption = Annotated[
    datetime | None,
    typer.Option(
        "--as-of",
        formats=FORMATS,
        metavar="TIME",
        help="Logical time (UTC), such as 2025-06-01: the run sees only what was known then. Default: now.",
        envvar="AS_OF",
    ),
]


_loads: list[Load] = []
_overlays: list[str] = []


def lay_on_top(names: list[str]) -> None:
    """Name the layers of conf/ that are laid on top of every environment's."""
    _overlays[:] = names


def owned_by(load: Load) -> None:
    """Say how the commands get the owner's project."""
    _loads[:] = [load]


def owner() -> "tuple[Project, Deliveries]":
    """The owner's project, and what its sources deliver."""
    return _loads[0]()


def environment(name: str, *overlays: str) -> "Environment":
    """The environment of this name, in the folder where the command was called."""
    from mlplatform.environment import Environment

    return Environment.load(name, owner()[0], overlays=(*overlays, *_overlays))


def checked(name: str, *overlays: str) -> "Environment":
    """The same for a pipeline: raises MistakesError where `check` finds mistakes in this state of code and settings."""
    from mlplatform.config.loading import find_project
    from mlplatform.testing.check import refuse_mistakes

    refuse_mistakes(owner, find_project())
    return environment(name, *overlays)


def logical_time(as_of: datetime | None) -> datetime:
    """`as_of`, or now, as naive UTC in whole seconds."""
    return as_of or datetime.now(UTC).replace(tzinfo=None, microsecond=0)


def announce(run: "Run") -> None:
    """Print what a run wrote and noted."""
    for table, rows in run.written.items():
        typer.echo(f"{run.pipeline}: {table}: {rows:,} rows")
    for note in run.notes or ([] if run.written else ["nothing new"]):
        typer.echo(f"{run.pipeline}: {note}")
