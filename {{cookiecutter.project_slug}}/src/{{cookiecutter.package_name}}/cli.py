"""The command line: every room's commands, collected from its module `commands`."""

import importlib
import importlib.util
import os
import pkgutil
import sys

import typer


def collect() -> typer.Typer:
    """One application from what each room offers: named groups as groups, the rest as commands of their own."""
    app = typer.Typer(
        help="The life cycle of the model, from landing files to retraining.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # rich doubles the time that --help takes
    )
    package = importlib.import_module(__package__)
    for room in pkgutil.iter_modules(package.__path__):
        if room.ispkg and importlib.util.find_spec(f"{__package__}.{room.name}.commands"):
            for item in vars(importlib.import_module(f"{__package__}.{room.name}.commands")).values():
                if isinstance(item, typer.Typer):
                    app.add_typer(item)
    return app


def main() -> None:
    """Run a command. An error that a user can mend is one message and exit code 1; any other is a traceback."""
    # Threads that spin while they wait fight over a small machine's cores: a fit takes ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        collect()()
    except Exception as error:
        if not _can_be_mended(error):
            raise
        typer.secho(str(error.args[0] if error.args else error), fg="red", err=True)
        sys.exit(1)


def _can_be_mended(error: Exception) -> bool:
    """Errors of our own, and refusals to write; their messages say what was wrong, where, and what to do."""
    return type(error).__module__.startswith(f"{__package__}.") or isinstance(
        error, PermissionError | LookupError | FileExistsError
    )
