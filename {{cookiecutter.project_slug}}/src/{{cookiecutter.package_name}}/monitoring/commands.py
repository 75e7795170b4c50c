"""Commands of monitoring: the dashboard."""

from pathlib import Path
from typing import Annotated

import typer

from ..options import EnvOption

app = typer.Typer()


@app.command()
def dashboard(
    env: EnvOption = "dev",
    output: Annotated[
        Path | None, typer.Option(help="File to write. Default: dashboard.html beside the environment's tables.")
    ] = None,
) -> None:
    """Write the dashboard: one HTML file that needs neither a server nor a network."""
    from ..environment import Environment
    from ..usecase import model
    from .dashboard import collect, write_dashboard
    from .settings import Settings

    environment = Environment.load(env)
    data = collect(
        environment.tables,
        environment.settings(Settings),
        title=environment.project.name,
        environment=environment.name,
        metric=model.PRIMARY_METRIC,
        higher_is_better=model.GREATER_IS_BETTER,
    )
    typer.echo(write_dashboard(output or environment.tables.root / "dashboard.html", data))
