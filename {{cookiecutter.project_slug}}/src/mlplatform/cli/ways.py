"""The command that compares the three ways of asking."""

import os

import typer

from mlplatform.cli import checked, owner

app = typer.Typer()


@app.command("compare-ways")
def compare_ways_command() -> None:
    """After `demo`: stream and serve once more what batch has scored, and compare to the last digit."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as `serve` does
    from mlplatform.delivery.ways import compare_ways

    env = checked("prod", "demo")
    agreed = compare_ways(env, owner()[1], lambda text: typer.echo(f"compare-ways: {text}"))
    typer.echo(
        f"compare-ways: {agreed.rows:,} predictions from {agreed.start:%Y-%m-%d} to {agreed.end:%Y-%m-%d}: "
        "batch, stream and server agree on all of them, to the last digit"
    )
