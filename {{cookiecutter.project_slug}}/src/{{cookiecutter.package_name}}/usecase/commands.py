"""Commands of the sample: replay its files, and the demonstration of the whole life cycle."""

import typer

from ..options import AsOfOption, logical_time

app = typer.Typer()


@app.command("land")
def land_command(as_of: AsOfOption = None) -> None:
    """Put the sample's files into the landing zone, as far as they were known at --as-of."""
    from ..environment import Environment
    from ..lakehouse.settings import Settings
    from .replay import land

    env = Environment.load("dev")
    for source, rows in land(env.project / env.settings(Settings).landing, logical_time(as_of)).items():
        typer.echo(f"{source}: {rows:,} rows landed")


@app.command("demo")
def demo_command() -> None:
    """Take the sample through dev, staging and prod: training, gates, scoring, alerts and retraining."""
    from .demo import run_demo

    run_demo()
