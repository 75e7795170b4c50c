"""The command line of an owner's project: groups of commands, which share these options."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from mlplatform.errors import UserError

if TYPE_CHECKING:
    from mlplatform.contract import Deliveries, Project
    from mlplatform.environment import Environment, Run

GROUPS = (
    *("check", "pipelines", "promotion", "serving", "streaming"),
    *("lakehouse", "registry", "delivery", "databricks", "ways"),
)

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


def application() -> typer.Typer:
    """All groups that this repository has."""
    app = typer.Typer(
        callback=_before_any,
        help="The life cycle of the model, from landing files to retraining.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # rich doubles the time that --help takes
    )
    for group in GROUPS:
        if importlib.util.find_spec(f"{__name__}.{group}"):
            for item in vars(importlib.import_module(f"{__name__}.{group}")).values():
                if isinstance(item, typer.Typer):
                    app.add_typer(item)
    return app


def _before_any(
    conf: Annotated[
        list[str] | None,
        typer.Option("--conf", envvar="CONF", metavar="NAME", help="Lay conf/NAME.yml on the environment's settings."),
    ] = None,
) -> None:
    _overlays[:] = conf or []


def main(load: Load) -> None:
    """Run a command of the project that `load` gives: it is called by commands that need it, --help does not.

    An error that a user can fix is one message and exit code 1; any other is a traceback.
    """
    # Threads that spin while they wait fight over a small machine's cores: a fit takes ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    owned_by(load)
    try:
        application()()
    except SystemExit as done:
        if done.code or "DATABRICKS_RUNTIME_VERSION" not in os.environ:  # a job there takes any exit for a failure
            raise
    except UserError as error:
        typer.secho(str(error), fg="red", err=True)
        sys.exit(1)


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
