"""Commands of online inference."""

import os
from datetime import UTC, datetime
from typing import Annotated

import typer

from mlplatform.cli import AsOfOption, EnvOption, announce, checked, logical_time

app = typer.Typer()


@app.command("materialize")
def materialize_command(
    env: EnvOption = "dev",
    as_of: AsOfOption = None,
    backfill: Annotated[bool, typer.Option("--backfill", help="Publish everything anew.")] = False,
) -> None:
    """Publish the latest feature values where the server looks them up."""
    from mlplatform.pipelines.materialize import materialize

    announce(materialize(checked(env), logical_time(as_of), backfill=backfill))


@app.command("serve")
def serve_command(
    env: EnvOption = "dev",
    as_of: AsOfOption = None,
    host: Annotated[str | None, typer.Option(help="Instead of serving.host.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Instead of serving.port; 0: any that is free.")
    ] = None,
    unlimited: Annotated[bool, typer.Option("--unlimited", help="No limit per key: for load tests.")] = False,
) -> None:
    """Answer requests over HTTP; with --as-of as if it were that time."""
    # One row needs no threads, and waiting for them costs a busy machine a hundred times what they save.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from mlplatform.serving.server import serve

    clock = (lambda: as_of) if as_of else (lambda: datetime.now(UTC).replace(tzinfo=None))
    serve(checked(env), clock, host, port, unlimited=unlimited)


@app.command("load-test")
def load_test_command(env: EnvOption = "staging", as_of: AsOfOption = None) -> None:
    """Start a server, ask it without a pause, and fail where it is beyond the limits of serving.load."""
    from mlplatform.serving.load import load_test

    found = load_test(checked(env), logical_time(as_of))
    typer.echo(f"load-test: {found or f'{env} has no champion yet: nothing to ask'}")


@app.command("serving-key")
def key_command(name: Annotated[str, typer.Argument(help="Who will use it.")]) -> None:
    """Make an API key: the key for its holder, and the entry for the server."""
    from mlplatform.serving.access import FILE, KEYS, new_key

    key, entry = new_key(name)
    typer.echo(f"{key}\n  for {name}, in the header X-API-Key: it is shown this once")
    typer.echo(f"{entry}\n  for the server: in {KEYS}, or a line of the file that {FILE} names")


@app.command("collect")
def collect_command(env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """Take the request log into the predictions, as `ingest` does at its end."""
    from mlplatform.pipelines.collect import collect

    announce(collect(checked(env), logical_time(as_of)))
