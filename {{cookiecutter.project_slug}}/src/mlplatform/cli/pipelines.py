"""Commands of the pipelines: one by one, and all of them on what the sources deliver."""

from typing import Annotated

import typer

from mlplatform.cli import AsOfOption, EnvOption, announce, checked, environment, logical_time, owner

app = typer.Typer()


@app.command("ingest")
def ingest_command(env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """Landing files to Bronze, Bronze to Silver; refused rows to quarantine."""
    from mlplatform.pipelines.ingest import ingest

    announce(ingest(checked(env), logical_time(as_of)))


@app.command("featurize")
def featurize_command(
    env: EnvOption = "dev",
    as_of: AsOfOption = None,
    backfill: Annotated[bool, typer.Option("--backfill", help="Compute everything from the start.")] = False,
) -> None:
    """Bring the feature tables up to date."""
    from mlplatform.pipelines.featurize import featurize

    announce(featurize(checked(env), logical_time(as_of), backfill=backfill))


@app.command("refresh")
def refresh_command(
    env: EnvOption = "dev",
    as_of: AsOfOption = None,
    backfill: Annotated[bool, typer.Option("--backfill", help="Compute all features from the start.")] = False,
) -> None:
    """Ingest and featurize; nothing where silver and features are another environment's."""
    from mlplatform.pipelines.featurize import featurize
    from mlplatform.pipelines.ingest import ingest

    at, now = checked(env), logical_time(as_of)
    if at.sources is not at.catalog:
        typer.echo(f"refresh: {env} reads {at.sources.owner}'s tables (lakehouse.features_from)")
        return
    announce(ingest(at, now))
    announce(featurize(at, now, backfill=backfill))


@app.command("train")
def train_command(
    env: EnvOption = "dev",
    as_of: AsOfOption = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the request for Staging.")] = "asked for",
) -> None:
    """Train and register a model, and request its move to Staging."""
    from mlplatform.pipelines.train import train

    def progress(trial: int, trials: int, best: float) -> None:
        typer.echo(f"  tuning: trial {trial} of {trials}, best {best:.4f}", err=True)

    announce(train(checked(env), logical_time(as_of), reason=reason, progress=progress))


@app.command("deploy")
def deploy_command(env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """Carry waiting versions through compliance, comparison and approval."""
    from mlplatform.pipelines.deploy import deploy

    announce(deploy(checked(env), logical_time(as_of)))


@app.command("infer")
def infer_command(
    env: EnvOption = "dev",
    as_of: AsOfOption = None,
    again: Annotated[bool, typer.Option("--again", help="Score the window even where it is scored.")] = False,
) -> None:
    """Score, in batch, what became due since the last run."""
    from mlplatform.pipelines.infer import infer

    announce(infer(checked(env), logical_time(as_of), again=again))


@app.command("monitor")
def monitor_command(env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """Measure data, drift and performance; raise alerts."""
    from mlplatform.pipelines.monitor import monitor

    announce(monitor(checked(env), logical_time(as_of)))


@app.command("retrain")
def retrain_command(env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """Train and deploy again, if the schedule or an alert says so."""
    from mlplatform.pipelines.retrain import retrain

    runs = retrain(checked(env), logical_time(as_of), typer.echo)
    if not runs:
        typer.echo("retraining is not due (see pipelines.retraining)")
    for run in runs:
        announce(run)


@app.command("maintain")
def maintain_command(env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """Merge small files, and delete what has expired: rows, old versions and logs."""
    from mlplatform.pipelines.maintain import maintain

    announce(maintain(environment(env), logical_time(as_of)))


@app.command("status")
def status_command(env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """Where the environment stands: champion, waiting requests, last runs, newest alerts."""
    from mlplatform.monitoring.status import status

    for line in status(environment(env), logical_time(as_of)):
        typer.echo(line)


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
