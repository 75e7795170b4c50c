"""Commands of delivery: what `make` targets, and the platform's jobs through them, call."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlplatform.cli import AsOfOption, EnvOption, checked, environment, logical_time, owner
from mlplatform.cli.registry import answer

if TYPE_CHECKING:
    from mlplatform.config.sections import DeliverySettings
    from mlplatform.delivery.hosts import Host
    from mlplatform.environment import Environment

LONGEST_COMMENT = 60_000  # characters
app = typer.Typer(name="delivery", help="From a merge request to production: what CI calls.", no_args_is_help=True)


@app.command("integrate")
def integrate_command(
    report: Annotated[Path, typer.Option(help="Markdown file to write.")] = Path("build/integration.md"),
) -> None:
    """Run every pipeline of staging on a subset, in tables of its own, and write a report."""
    import shutil

    from mlplatform.delivery.integration import integrate
    from mlplatform.errors import ConfigError
    from mlplatform.storage.address import UNITY, scheme

    env = checked("staging", "integration")
    where = scheme(env.config.lakehouse.root)
    if where == UNITY and (found := env.catalog.names()):
        raise ConfigError(f"lakehouse.root: the integration test starts from nothing, and there is {found[0]}")
    if where and where != UNITY:
        raise ConfigError(
            f"lakehouse.root: {env.config.lakehouse.root}: the integration test deletes what it finds there: "
            "name a folder in conf/integration.yml"
        )
    if not where:
        shutil.rmtree(env.reports.parent, ignore_errors=True)
    try:
        integrate(env, owner()[1], report)
    finally:
        if report.exists():
            typer.echo(report.read_text(encoding="utf-8"))


@app.command()
def cut(version: Annotated[str, typer.Argument(help="For example v0.2.0.")]) -> None:
    """Tag HEAD as a release, if its checks passed."""
    from mlplatform.config.loading import find_project
    from mlplatform.delivery.release import cut as cut_release

    typer.echo(f"{version} is {cut_release(find_project(), version, _host())}")


@app.command()
def record(env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """Record that the environment runs this code; tell the jobs that follow whether to train."""
    from mlplatform.delivery.release import record as record_release

    at = _kept(env)
    train = record_release(at, logical_time(as_of))
    _host().output("train", "true" if train else "false")
    typer.echo(f"{env} runs {at.code}; training is {'due' if train else 'not due'}")


@app.command()
def checkout(env: EnvOption = "dev") -> None:
    """Bring the working tree to the code that the environment runs."""
    from mlplatform.delivery.release import check_out

    typer.echo(f"{env} runs {check_out(_kept(env))}")


@app.command()
def review(
    env: EnvOption = "dev",
    as_of: AsOfOption = None,
    output: Annotated[Path, typer.Option(help="Folder to copy the review pack to.")] = Path("build/review"),
) -> None:
    """Copy the review pack of the version that waits for a person, and tell the jobs that follow its number."""
    import shutil

    from mlplatform.registry.approval import review_pack, waits_for_a_person
    from mlplatform.registry.store import Registry

    registry = Registry(environment(env))
    waiting = [
        request.version
        for request in registry.ledger.pending("Production", logical_time(as_of))
        if waits_for_a_person(registry, request.version)
    ]
    shutil.rmtree(output, ignore_errors=True)
    for number in waiting[-1:]:
        shutil.copytree(review_pack(registry, number), output)
    _host().output("waiting", str(waiting[-1]) if waiting else "")
    typer.echo(f"version {waiting[-1]} waits: {output}/review.md" if waiting else "no version waits for a person")


@app.command()
def approve(
    version: Annotated[int, typer.Argument(help="The version that was reviewed.")],
    env: EnvOption = "dev",
    as_of: AsOfOption = None,
) -> None:
    """Approve a version in the name of the person who let this job pass the platform's gate."""
    by, reason = _host().approval()
    answer("approved", _kept(env), version, as_of, by, reason)
    typer.echo(f"version {version}: approved by {by}, now in Production")


@app.command()
def affected(since: Annotated[str, typer.Argument(help="The commit that was checked before.")]) -> None:
    """Tell the jobs that follow whether more than prose has changed."""
    from mlplatform.config.loading import find_project
    from mlplatform.delivery.release import only_prose_changed

    _host().output("code", "false" if only_prose_changed(find_project(), since) else "true")


@app.command()
def comment(file: Annotated[Path, typer.Argument(help="Markdown to post.", exists=True, dir_okay=False)]) -> None:
    """Post a report on the merge request that this job runs for."""
    _host().comment(file.read_text(encoding="utf-8")[:LONGEST_COMMENT])


@app.command()
def schedules(cron: Annotated[str, typer.Argument(help="For example '5 * * * *'.")] = "") -> None:
    """List the schedules of conf/base.yml with their jobs; with a schedule, print the job that it stands for."""
    settings = _settings()
    if cron:
        typer.echo(settings.job(cron))
    else:
        for name, time in settings.jobs().items():
            typer.echo(f"{time:<12} JOB={name}")


def _kept(name: str) -> "Environment":
    """An environment whose tables and models are still there after this job."""
    from mlplatform.delivery.release import refuse_lost_disk

    env = environment(name)
    refuse_lost_disk(env, _host())
    return env


def _host() -> "Host":
    from mlplatform.delivery.hosts import host

    return host(_settings().host)


def _settings() -> "DeliverySettings":
    from mlplatform.config.loading import find_project, load_config

    return load_config(find_project(), "prod").delivery
