"""Commands of the registry: look, decide, roll back."""

import math
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from mlplatform.cli import AsOfOption, EnvOption, environment, logical_time

if TYPE_CHECKING:
    from mlplatform.environment import Environment
    from mlplatform.registry.transitions import Answer

app = typer.Typer(name="registry", help="Model versions, their stages, and a person's decisions.", no_args_is_help=True)
top = typer.Typer()

Version = Annotated[int, typer.Argument(help="The version's number.")]
By = Annotated[str, typer.Option(help="Who decides; kept in the audit table.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit table.")]


@app.command()
def show(env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """All versions with their stage, metric and history."""
    from mlplatform.registry.store import Registry

    registry, now = Registry(environment(env)), logical_time(as_of)
    primary = registry.env.project.model.primary.name
    versions = registry.versions()
    if not versions:
        typer.echo(f"{registry.model} has no version yet: run `train --env {env}`")
    for version in versions:
        number = int(version.version)
        tags = registry.tags(number)
        metric, baseline = (measured.get(primary, math.nan) for measured in (tags.metrics, tags.baseline))
        typer.echo(f"{registry.model} version {number}: {registry.ledger.stage(number, now)}")
        typer.echo(f"  as of {tags.as_of}, code {tags.code}, {primary} {metric:.4f} (baseline {baseline:.4f})")
        for move in registry.ledger.all():
            if move.version == number and move.requested_at <= now:
                closed = (
                    f"{move.closed_at} {move.status} by {move.closed_by}: {move.reason}"
                    if move.closed_at
                    else "pending"
                )
                typer.echo(f"  {move.requested_at} {move.to_stage} asked by {move.requested_by}; {closed}")


@app.command()
def approve(version: Version, by: By, reason: Reason, env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """Put a version that won its comparison into Production."""
    answer("approved", environment(env), version, as_of, by, reason)
    typer.echo(f"version {version}: approved, now in Production")


@app.command()
def reject(version: Version, by: By, reason: Reason, env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """Archive a version that waits for approval."""
    answer("rejected", environment(env), version, as_of, by, reason)
    typer.echo(f"version {version}: rejected, now Archived")


@app.command("rollback")
def rollback_command(by: By, reason: Reason, env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """Put the champion before the present one back into Production."""
    from mlplatform.registry.approval import rollback
    from mlplatform.registry.store import Registry
    from mlplatform.registry.transitions import Decision

    at, now = environment(env), logical_time(as_of)
    with at.run("rollback", now):
        number = rollback(Registry(at), Decision(now, by, reason))
    typer.echo(f"version {number} is in Production again")


@app.command()
def listen(
    env: EnvOption = "dev",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Start `deploy` when MLflow's webhook says that a version asks for Staging, until Ctrl-C.

    The secret of the webhook is read from the environment variable MLFLOW_WEBHOOK_SECRET.
    """
    import os

    from mlplatform.delivery.webhook import SECRET, Guard, Receiver, deployer
    from mlplatform.registry.store import Registry

    at = environment(env)
    guard, model = Guard(os.environ.get(SECRET, "")), Registry(at).model
    with Receiver((host, port), guard, model, deployer(at, typer.echo), typer.echo) as receiver:
        typer.echo(f"listening for {model} at http://{host}:{receiver.server_port}")
        receiver.serve_forever()


@top.command()
def ui(port: Annotated[int, typer.Option(help="Port on this machine.")] = 5000) -> None:
    """Open MLflow's own pages on the registry, at http://127.0.0.1:PORT, until Ctrl-C."""
    import os
    import subprocess
    import sys

    from mlplatform.registry.store import tracking_uri

    env = environment("dev")
    uri = tracking_uri(env.folder, env.config.registry.tracking_uri)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    # One worker, and none of the server's own background jobs, which take as much memory each.
    quiet = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    raise typer.Exit(subprocess.call([*command, "--workers", "1", "--port", str(port)], env=quiet))


def answer(what: "Answer", env: "Environment", version: int, as_of: datetime | None, by: str, reason: str) -> None:
    """A person's answer to a version that waits, as a run of its own."""
    from mlplatform.registry.approval import decide
    from mlplatform.registry.store import Registry
    from mlplatform.registry.transitions import Decision

    now = logical_time(as_of)
    with env.run("approve" if what == "approved" else "reject", now):
        decide(Registry(env), version, what, Decision(now, by, reason))
