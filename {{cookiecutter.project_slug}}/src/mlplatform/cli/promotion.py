"""Commands of promotion."""

from pathlib import Path
from typing import Annotated

import typer

from mlplatform.cli import AsOfOption, EnvOption, announce, checked, environment, logical_time

app = typer.Typer()


@app.command("promote")
def promote_command(
    env: EnvOption = "staging",
    as_of: AsOfOption = None,
    folder: Annotated[Path | None, typer.Option("--from", help="What `export` wrote, from another store.")] = None,
) -> None:
    """Bring the model that the environment before has accepted into this one, and request its move to Staging."""
    from mlplatform.pipelines.promote import promote

    announce(promote(checked(env), logical_time(as_of), folder))


@app.command("export")
def export_command(
    folder: Annotated[Path, typer.Argument(help="A new folder.")], env: EnvOption = "dev", as_of: AsOfOption = None
) -> None:
    """Write the accepted model into a folder, for an environment that cannot reach this MLflow store."""
    from mlplatform.registry.store import Registry
    from mlplatform.registry.transfer import PromotionError, export_version

    registry = Registry(environment(env))
    number = registry.ledger.champion(logical_time(as_of))
    if number is None:
        raise PromotionError(f"{env} has accepted no version of {registry.model}: nothing to export")
    export_version(registry, number, folder)
    typer.echo(f"{registry.model} version {number}: {folder}")
