"""Commands of delivery: what `make` targets, and the platform's jobs through them, call."""

from pathlib import Path
from typing import Annotated

import typer

from ..options import AsOfOption, EnvOption, logical_time

app = typer.Typer(name="delivery", help="From a merge request to production: what CI calls.", no_args_is_help=True)


@app.command("integrate")
def integrate_command(
    report: Annotated[Path, typer.Option(help="Markdown file to write.")] = Path("build/integration.md"),
) -> None:
    """Run every pipeline of staging on a subset, in tables of its own, and write a report."""
    import shutil

    from ..environment import Environment
    from ..lakehouse.settings import Settings
    from ..usecase.integration import deliver
    from .integration import integrate

    env = Environment.load("staging", overlays=("integration",))
    shutil.rmtree(env.tables.root.parent, ignore_errors=True)
    deliver(env.project / env.settings(Settings).landing)
    try:
        integrate(env, report)
    finally:
        if report.exists():
            typer.echo(report.read_text(encoding="utf-8"))


@app.command()
def cut(version: Annotated[str, typer.Argument(help="For example v0.2.0.")]) -> None:
    """Tag HEAD as a release, if its checks passed."""
    from ..config import find_project
    from .release import cut as cut_release

    typer.echo(f"{version} is {cut_release(find_project(), version)}")


@app.command()
def record(env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """Record that the environment runs this code; tell the jobs that follow whether to train."""
    from ..environment import Environment
    from . import host
    from .release import record as record_release

    environment = Environment.load(env)
    train = record_release(environment, logical_time(as_of))
    host.output("train", "true" if train else "false")
    typer.echo(f"{env} runs {environment.code}; training is {'due' if train else 'not due'}")


@app.command()
def checkout(env: EnvOption = "dev") -> None:
    """Bring the working tree to the code that the environment runs."""
    from ..environment import Environment
    from .release import check_out

    typer.echo(f"{env} runs {check_out(Environment.load(env))}")


@app.command()
def review(
    env: EnvOption = "dev",
    as_of: AsOfOption = None,
    output: Annotated[Path, typer.Option(help="Folder to copy the review pack to.")] = Path("build/review"),
) -> None:
    """Copy the review pack of the version that waits for a person, and tell the jobs that follow its number."""
    import shutil

    from ..environment import Environment
    from ..registry.approval import review_pack_of, waits_for_a_person
    from ..registry.store import Registry
    from . import host

    registry = Registry(Environment.load(env))
    waiting = [
        request.version
        for request in registry.ledger.pending("Production", logical_time(as_of))
        if waits_for_a_person(registry, request.version)
    ]
    shutil.rmtree(output, ignore_errors=True)
    for number in waiting[-1:]:
        shutil.copytree(review_pack_of(registry, number), output)
    host.output("waiting", str(waiting[-1]) if waiting else "")
    typer.echo(f"version {waiting[-1]} waits: {output}/review.md" if waiting else "no version waits for a person")


@app.command()
def approve(
    version: Annotated[int, typer.Argument(help="The version that was reviewed.")],
    env: EnvOption = "dev",
    as_of: AsOfOption = None,
) -> None:
    """Approve a version in the name of the person who let this job pass the platform's gate."""
    from ..environment import Environment
    from ..registry.approval import decide
    from ..registry.store import Registry
    from . import host

    by, reason = host.approval()
    environment, now = Environment.load(env), logical_time(as_of)
    with environment.run("approve", now):
        decide(Registry(environment), version, approve=True, by=by, reason=reason, as_of=now)
    typer.echo(f"version {version}: approved by {by}, now in Production")
