"""Commands of the pipelines."""

from typing import Annotated

import typer

from ..options import AsOfOption, EnvOption, announce, logical_time

app = typer.Typer()


@app.command("ingest")
def ingest_command(env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """Landing files to Bronze, Bronze to Silver; refused rows to quarantine."""
    from ..environment import Environment
    from .ingest import ingest

    announce(ingest(Environment.load(env), logical_time(as_of)))


@app.command("featurize")
def featurize_command(
    env: EnvOption = "dev",
    as_of: AsOfOption = None,
    backfill: Annotated[bool, typer.Option("--backfill", help="Compute everything from the start.")] = False,
) -> None:
    """Bring the feature tables up to date."""
    from ..environment import Environment
    from .featurize import featurize

    announce(featurize(Environment.load(env), logical_time(as_of), backfill=backfill))


@app.command("train")
def train_command(
    env: EnvOption = "dev",
    as_of: AsOfOption = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the request for Staging.")] = "asked for",
) -> None:
    """Train and register a model, and request its move to Staging."""
    from ..environment import Environment
    from .train import train

    def progress(trial: int, trials: int, best: float) -> None:
        typer.echo(f"  tuning: trial {trial} of {trials}, best {best:.4f}", err=True)

    announce(train(Environment.load(env), logical_time(as_of), reason=reason, progress=progress))


@app.command("deploy")
def deploy_command(env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """Carry waiting versions through compliance, comparison and approval."""
    from ..environment import Environment
    from .deploy import deploy

    announce(deploy(Environment.load(env), logical_time(as_of)))


@app.command("infer")
def infer_command(
    env: EnvOption = "dev",
    as_of: AsOfOption = None,
    again: Annotated[bool, typer.Option("--again", help="Score the window even where it is scored.")] = False,
) -> None:
    """Score, in batch, what became due since the last run."""
    from ..environment import Environment
    from .infer import infer

    announce(infer(Environment.load(env), logical_time(as_of), again=again))


@app.command("monitor")
def monitor_command(env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """Measure data, drift and performance; raise alerts."""
    from ..environment import Environment
    from .monitor import monitor

    announce(monitor(Environment.load(env), logical_time(as_of)))


@app.command("retrain")
def retrain_command(env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """Train and deploy again, if the schedule or an alert says so."""
    from ..environment import Environment
    from .retrain import retrain

    runs = retrain(Environment.load(env), logical_time(as_of), typer.echo)
    if not runs:
        typer.echo("retraining is not due (see pipelines.retraining)")
    for run in runs:
        announce(run)


@app.command("status")
def status_command(env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """Where the environment stands: champion, waiting requests, last runs, newest alerts."""
    from ..environment import Environment
    from .status import status

    for line in status(Environment.load(env), logical_time(as_of)):
        typer.echo(line)
