"""The demonstration: the sample through dev, staging and prod, in one process.

First comes the history that the first models learn from; then time goes forward, stop by stop.
Nothing here decides anything: what is promoted, refused or retrained follows from the data and conf/*.yml.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from ..config import find_project
from ..environment import Environment
from ..lakehouse.settings import Settings as LakehouseSettings
from ..pipelines.deploy import deploy
from ..pipelines.featurize import featurize
from ..pipelines.infer import infer
from ..pipelines.ingest import ingest
from ..pipelines.monitor import monitor, publish
from ..pipelines.retrain import retrain
from ..pipelines.train import train
from ..registry.store import Registry
from .replay import FIRST_RELEASE, STOPS, land

AUTHOR = "demo@localhost"
Step = tuple[str, Callable[[], object]]


def run_demo() -> None:
    project, console = find_project(), Console()
    make_release(project, console)
    envs = {name: Environment.load(name, project, overlays=("demo",)) for name in ("dev", "staging", "prod")}
    prod = envs["prod"]
    begin(project / "data", prod.code, console)
    steps = list(story(envs["dev"], envs["staging"], prod))
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(steps))
        for description, act in steps:
            progress.update(task, description=f"{description:<40}")
            act()
            progress.advance(task)
        progress.update(task, description=f"{'done':<40}")
    summarise(console, envs)
    dashboard = publish(prod)
    console.print(f"\nDashboard: [bold]{dashboard}[/]", soft_wrap=True)


def make_release(project: Path, console: Console) -> None:
    """Where the project is no git repository yet, make it one, with a release: prod runs nothing else.

    A repository that the demo made gets another release when its files have changed; any other is left alone.
    """
    author = git(project, "log", "-1", "--format=%ae") if (project / ".git").exists() else AUTHOR
    if author != AUTHOR or ((project / ".git").exists() and not git(project, "status", "--porcelain")):
        return
    git(project, "init", "--quiet", "--initial-branch=main")
    git(project, "add", "--all")
    identity = ["-c", "user.name=demo", "-c", f"user.email={AUTHOR}", "-c", "commit.gpgsign=false"]
    tag = f"v0.1.{len(git(project, 'tag').split())}"
    git(project, *identity, "commit", "--quiet", "--message", f"Release {tag}")
    git(project, *identity, "-c", "tag.gpgsign=false", "tag", "--annotate", tag, "--message", f"Release {tag}")
    console.print(f"Made the git release {tag} of this project: prod runs released code only.")


def begin(data: Path, code: str, console: Console) -> None:
    """Make sure that `data` is the demo's own, made by this very code; what other code's demo made is deleted.

    Raises FileExistsError where there are tables that no demo made.
    """
    marker = data / "demo"
    mine = marker.read_text(encoding="utf-8") if marker.exists() else ""
    if mine != code and data.exists() and any(data.iterdir()):
        if not mine:
            raise FileExistsError(f"{data} holds data that the demo did not make: run it in another clone")
        console.print(f"Starting afresh: the data here are from a demo of {mine}, and this is {code}.")
        shutil.rmtree(data)
    data.mkdir(exist_ok=True)
    marker.write_text(code, encoding="utf-8")


def git(project: Path, *arguments: str) -> str:
    command = ["git", "-C", str(project), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def story(dev: Environment, staging: Environment, prod: Environment) -> Iterator[Step]:
    """The steps, in order."""
    landing = prod.project / prod.settings(LakehouseSettings).landing
    start = FIRST_RELEASE
    yield f"sources: land up to {start:%Y-%m-%d}", partial(land, landing, start)
    yield "prod: ingest the history", partial(ingest, prod, start)
    yield "prod: compute features", partial(featurize, prod, start)
    yield "dev: tune and train on prod's features", partial(train, dev, start, reason="first model")
    yield "dev: gates", partial(deploy, dev, start)
    yield "staging: ingest", partial(ingest, staging, start)
    yield "staging: compute features", partial(featurize, staging, start)
    yield "staging: train on a subset", partial(train, staging, start, reason="integration test")
    yield "staging: gates", partial(deploy, staging, start)
    yield "prod: train", partial(train, prod, start, reason="first model")
    yield "prod: gates", partial(deploy, prod, start)
    for stop in STOPS:
        name = f"{stop:%Y-%m-%d}"
        yield f"sources: land up to {name}", partial(land, landing, stop)
        for env in (prod, staging) if stop == STOPS[0] else (prod,):
            for pipeline in (ingest, featurize, infer, monitor):
                yield f"{env.name}: {pipeline.__name__} {name}", partial(pipeline, env, stop)
        yield f"prod: retrain if due {name}", partial(retrain, prod, stop)


def summarise(console: Console, envs: dict[str, Environment]) -> None:
    """Print what happened to every model version, and why."""
    table = Table("when", "model", "what", "why", title="What happened, and why")
    for name, env in envs.items():
        for move in Registry(env).ledger.all():
            when, label = f"{move.closed_at or move.requested_at:%Y-%m-%d}", f"{name} v{move.version}"
            if move.to_stage == "Staging":
                table.add_row(when, label, "trained", move.request_reason)
            if move.status == "rejected":
                table.add_row(when, label, "[red]refused[/]", f"{move.closed_by}: {move.reason}")
            elif move.to_stage == "Production":
                table.add_row(when, label, "[green]promoted[/]", move.reason)
    console.print(table)
