"""The command line of an owner's project, command group by command group."""

import importlib
import importlib.util
import os
import sys
from typing import Annotated

import typer

from mlplatform.cli.options import Load, lay_on_top, owned_by
from mlplatform.errors import UserError

GROUPS = (
    *("check", "pipelines", "promotion", "serving", "streaming"),
    *("lakehouse", "registry", "delivery", "databricks", "ways"),
)


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
    lay_on_top(conf or [])


def main(load: Load) -> None:
    """Run a command of the project that `load` gives: it is called by commands that need it, --help does not.

    An error that a user can mend is one message and exit code 1; any other is a traceback.
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
