"""Commands of the lakehouse: ask it anything, see it on a page, delete from it."""

from pathlib import Path
from typing import Annotated

import typer

from mlplatform.cli import AsOfOption, EnvOption, environment, logical_time

app = typer.Typer()


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="For example: select * from ops.runs limit 5")] = "",
    env: EnvOption = "dev",
    as_of: AsOfOption = None,
    rows: Annotated[int, typer.Option(help="How many rows to print.")] = 50,
) -> None:
    """Ask any table a question, in SQL; without a question, list the tables. --as-of shows what was known then."""
    from rich.console import Console
    from rich.markup import escape
    from rich.measure import Measurement
    from rich.table import Table

    from mlplatform.environment import READ_TOGETHER

    at = environment(env)
    if not query:
        owner, borrowed = at.sources.owner, at.sources is not at.catalog
        listing = [name for name in at.catalog.names() if not (borrowed and name.split(".")[0] in READ_TOGETHER)]
        if borrowed:
            shared = [name for name in at.sources.names() if name.split(".")[0] in READ_TOGETHER]
            listing += [f"{name} (of {owner})" for name in shared]
        typer.echo("\n".join(listing) or f"{env} has no tables yet: run ingest")
        return
    result = at.engine.query(query, as_of=as_of).arrow()
    shown, console, table = result.slice(0, rows).to_pylist(), Console(), Table(*result.column_names)
    for row in shown:
        table.add_row(*("" if value is None else escape(str(value)) for value in row.values()))
    if Measurement.get(console, console.options.update(width=10_000), table).maximum <= console.width:
        console.print(table)
    else:  # as lines: a table would cut the values, or wrap them
        for number, row in enumerate(shown, 1):
            typer.echo("\n".join([f"-- row {number}", *(f"{name:<32} {value}" for name, value in row.items())]))
    if result.num_rows > rows:
        typer.echo(f"{rows} of {result.num_rows:,} rows (--rows shows more)")


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


@app.command()
def forget(
    about: Annotated[list[str], typer.Argument(help="COLUMN=VALUE, such as item_id=I-17; several: all of them.")],
    by: Annotated[str, typer.Option(help="Who asks; kept in ops.forgotten.")] = "",
    reason: Annotated[str, typer.Option(help="Why; kept in ops.forgotten, so without the value.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without it, only list what is affected.")] = False,
    now: Annotated[
        bool, typer.Option("--now", help="Delete earlier versions of the tables, too, before `maintain` does.")
    ] = False,
    env: EnvOption = "dev",
    as_of: AsOfOption = None,
) -> None:
    """Delete what is known of a person or thing: tables and their history, landing files, samples of models.

    Lists rows, files and the model versions trained on them; deletes with --yes, which needs --by and --reason.
    """
    from mlplatform.pipelines.forget import forget as run_forget
    from mlplatform.pipelines.forget import look
    from mlplatform.preparation.forgotten import subject_of

    at, subject = environment(env), subject_of(about)
    if yes:
        run = run_forget(at, subject, logical_time(as_of), by=by, reason=reason, now=now)
        for name, rows in run.written.items():
            typer.echo(f"{name}: {rows:,} rows forgotten")
        for note in run.notes:
            typer.echo(note)
        return
    found = look(at, subject)
    for name, rows in found.tables.items():
        typer.echo(f"{name}: {rows:,} rows")
    for name, lines in found.files.items():
        typer.echo(f"{at.landing / name}: {lines:,} lines")
    for line in [*found.versions, *found.stays]:
        typer.echo(str(line))
    typer.echo("nothing is changed: --yes with --by and --reason forgets it" if found else "nothing here is about it")
