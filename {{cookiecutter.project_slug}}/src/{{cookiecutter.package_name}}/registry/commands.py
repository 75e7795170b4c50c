"""Commands of the registry: look, decide, roll back."""

from typing import Annotated

import typer

from ..options import AsOfOption, EnvOption, logical_time

app = typer.Typer(name="registry", help="Model versions, their stages, and a person's decisions.", no_args_is_help=True)
top = typer.Typer()

Version = Annotated[int, typer.Argument(help="The version's number.")]
By = Annotated[str, typer.Option(help="Who decides; kept in the audit table.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit table.")]


@app.command()
def show(env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """All versions with their stage, metric and history."""
    from rich.console import Console
    from rich.table import Table

    from ..environment import Environment
    from ..usecase.model import PRIMARY_METRIC
    from .store import Registry

    registry = Registry(Environment.load(env))
    now = logical_time(as_of)
    table = Table("version", "as of", "stage", PRIMARY_METRIC, "baseline", "code", "history", title=registry.model)
    for version in registry.versions():
        number, tags = int(version.version), version.tags
        history = [
            f"{t.closed_at or t.requested_at:%Y-%m-%d} {t.to_stage}: {t.status} {t.reason}"
            for t in registry.ledger.all()
            if t.version == number and t.requested_at <= now
        ]
        metric, baseline = (tags.get(f"{kind}.{PRIMARY_METRIC}", "") for kind in ("metric", "baseline"))
        stage = registry.ledger.stage(number, now)
        cells = str(number), tags["as_of"][:10], stage, metric[:6], baseline[:6], tags["code"]
        table.add_row(*cells, "\n".join(history))
    Console().print(table)


@app.command()
def approve(version: Version, by: By, reason: Reason, env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """Put a version that won its comparison into Production."""
    _decide(version, env, as_of, by, reason, approve=True)


@app.command()
def reject(version: Version, by: By, reason: Reason, env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """Archive a version that waits for approval."""
    _decide(version, env, as_of, by, reason, approve=False)


@app.command("rollback")
def rollback_command(by: By, reason: Reason, env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """Put the champion before the present one back into Production."""
    from ..environment import Environment
    from .approval import rollback
    from .store import Registry

    environment, now = Environment.load(env), logical_time(as_of)
    with environment.run("rollback", now):
        number = rollback(Registry(environment), now, by, reason)
    typer.echo(f"version {number} is in Production again")


@top.command()
def ui(port: Annotated[int, typer.Option(help="Port on this machine.")] = 5000) -> None:
    """Open MLflow's own pages on the registry, at http://127.0.0.1:PORT, until Ctrl-C."""
    import os
    import subprocess
    import sys

    from ..environment import Environment
    from .settings import Settings
    from .store import tracking_uri

    env = Environment.load("dev")
    uri = tracking_uri(env.project, env.settings(Settings).tracking_uri)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    # One worker, and none of the server's own background jobs, which take as much memory each.
    quiet = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    raise typer.Exit(subprocess.call([*command, "--workers", "1", "--port", str(port)], env=quiet))


def _decide(version: int, env: str, as_of: AsOfOption, by: str, reason: str, *, approve: bool) -> None:
    from ..environment import Environment
    from .approval import decide
    from .store import Registry

    environment, now = Environment.load(env), logical_time(as_of)
    with environment.run("approve" if approve else "reject", now):
        decide(Registry(environment), version, approve=approve, by=by, reason=reason, as_of=now)
    typer.echo(f"version {version}: {'approved, now in Production' if approve else 'rejected, now Archived'}")
