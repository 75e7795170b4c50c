"""Commands of monitoring: the dashboard."""

from pathlib import Path
from typing import Annotated

import typer

from mlplatform.cli.options import EnvOption, environment

app = typer.Typer()


@app.command()
def dashboard(
    env: EnvOption = "dev",
    output: Annotated[
        Path | None,
        typer.Option(help="File to write. Default: dashboard.html beside the environment's tables.", dir_okay=False),
    ] = None,
) -> None:
    """Write the dashboard: one HTML file that needs neither a server nor a network."""
    from mlplatform.monitoring.dashboard import publish

    typer.echo(publish(environment(env), output))
