"""Commands on what the sources deliver: let them, and demonstrate the whole life cycle on it."""

import typer

from mlplatform.cli.options import AsOfOption, checked, environment, logical_time, owner

app = typer.Typer()


@app.command("land")
def land_command(as_of: AsOfOption = None) -> None:
    """Let the deliveries of `deliveries.py` land, as far as they were known at --as-of."""
    from mlplatform.storage.landing import delivering

    with delivering(environment("dev").landing) as landing:
        delivered = owner()[1].deliver(landing, logical_time(as_of))
    for source, rows in delivered.items():
        typer.echo(f"{source}: {rows:,} rows landed")


@app.command("demo")
def demo_command() -> None:
    """Take the deliveries through dev, staging and prod: training, gates, scoring, alerts and retraining."""
    from mlplatform.delivery.demo import run_demo

    checked("dev", "demo")
    run_demo(*owner())
