"""Commands on the project itself: is it right, and what does it know."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mlplatform.cli import EnvOption, environment, owner

app = typer.Typer()


@app.command("check")
def check_command() -> None:
    """Find mistakes in the project and in conf/, without data and in seconds."""
    from mlplatform.config.loading import find_project
    from mlplatform.testing.check import problems

    found = problems(owner, find_project())
    for line in found:
        typer.secho(line, fg="red", err=True)
    if found:
        sys.exit(1)
    typer.echo("check: nothing wrong")


@app.command("features")
def features_command(
    env: EnvOption = "dev",
    dictionary: Annotated[
        Path | None,
        typer.Option(help="Write a data dictionary of all tables into this Markdown file instead.", dir_okay=False),
    ] = None,
) -> None:
    """List the feature views: what a row is, how long it counts, how fresh it is, which versions need it."""
    from mlplatform.registry.store import Registry
    from mlplatform.storage.address import put
    from mlplatform.testing.check import refuse_mistakes
    from mlplatform.testing.dictionary import dictionary as write
    from mlplatform.testing.dictionary import grain, span
    from mlplatform.testing.dry_run import DryRun

    at = environment(env)
    if dictionary:
        refuse_mistakes(owner, at.folder)
        run = DryRun(at.project, at.folder)
        list(run.problems())
        put(dictionary, write(at.project, run).encode())
        typer.echo(dictionary)
        return
    needed = {int(v.version): v.tags.get("feature_views", "").split(",") for v in Registry(at).versions()}
    for view in at.project.views:
        newest = None
        if at.find(view.table):
            query = at.engine.query(f"SELECT max(event_timestamp) AS newest FROM {view.table}")
            newest = query.arrow()["newest"][0].as_py()
        typer.secho(f"{view.table}: {view.description}", bold=True)
        typer.echo(f"  row       {grain(at.project, f'features/{view.name}.sql')}")
        typer.echo(f"  keys      {', '.join(view.keys) or 'none'}")
        typer.echo(f"  counts    for {span(view.ttl)}; computed from the {span(view.lookback)} before it")
        typer.echo(f"  newest    {newest or 'nothing yet: run featurize'}")
        typer.echo(f"  versions  {', '.join(str(n) for n, views in needed.items() if view.name in views) or 'none'}")
