"""The demonstration: the owner's deliveries through dev, staging and prod, in one process.

Nothing here decides anything: what is promoted, rejected or retrained follows from the data and conf/*.yml.
"""

import shutil
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from mlplatform.config.loading import find_project
from mlplatform.contract import Deliveries, Project
from mlplatform.delivery.scenario import demonstration
from mlplatform.environment import Environment
from mlplatform.errors import UserError
from mlplatform.monitoring.dashboard import publish
from mlplatform.registry.store import Registry
from mlplatform.revision import git, kept_by_git

AUTHOR = "demo@localhost"


def run_demo(project: Project, deliveries: Deliveries) -> None:
    folder, console = find_project(), Console()
    make_release(folder, console)
    envs = {name: Environment.load(name, project, folder, ("demo",)) for name in ("dev", "staging", "prod")}
    prod = envs["prod"]
    begin(folder / "data", prod.code, console)
    steps = list(demonstration(envs, deliveries))
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    # What steps print goes through the bar where there is one, and is wrapped by it.
    with Progress(*columns, console=console, redirect_stderr=console.is_terminal) as progress:
        task = progress.add_task("", total=len(steps))
        for step in steps:
            description = f"{step.place}: {step.what} {step.as_of:%Y-%m-%d}"
            progress.update(task, description=f"{description:<40}")
            if not console.is_terminal:  # no bar is drawn there
                console.print(description)
            step.act()
            progress.advance(task)
        progress.update(task, description=f"{'done':<40}")
    summarise(console, envs)
    console.print(f"\nDashboard: [bold]{publish(prod)}[/]", soft_wrap=True)


def make_release(folder: Path, console: Console) -> None:
    """Where the project is in no git repository yet, or in an empty one, make a release there: prod runs nothing else.

    A repository that the demo made gets another release when its files have changed; any other is left alone, and so is
    one of which the project is a folder.
    """
    if kept_by_git(folder) and not (folder / ".git").exists():
        return
    begun = (folder / ".git").exists() and git(folder, "rev-list", "--all", "--max-count=1")
    author = git(folder, "log", "-1", "--format=%ae") if begun else AUTHOR
    if author != AUTHOR or (begun and not git(folder, "status", "--porcelain")):
        return
    console.print("Prod runs released code only: making this folder a git repository with a commit and a release tag.")
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    identity = ["-c", "user.name=demo", "-c", f"user.email={AUTHOR}", "-c", "commit.gpgsign=false"]
    tag = f"v0.1.{len(git(folder, 'tag').split())}"
    git(folder, *identity, "commit", "--quiet", "--message", f"Release {tag}")
    git(folder, *identity, "-c", "tag.gpgsign=false", "tag", "--annotate", tag, "--message", f"Release {tag}")
    console.print(f"Made the release {tag}.")


def begin(data: Path, code: str, console: Console) -> None:
    """Make sure that `data` is the demo's own, made by this very code; what other code's demo made is deleted.

    The integration test's tables may lie beside it. Raises UserError where there are any that neither made.
    """
    marker = data / "demo"
    mine = marker.read_text(encoding="utf-8") if marker.exists() else ""
    if mine != code and data.exists() and {path.name for path in data.iterdir()} - {"integration"}:
        if not mine:
            raise UserError(f"{data} holds data that the demo did not make: run it in another clone")
        console.print(f"Starting afresh: the data here are from a demo of {mine}, and this is {code}.")
        shutil.rmtree(data)
    data.mkdir(exist_ok=True)
    marker.write_text(code, encoding="utf-8")


def summarise(console: Console, envs: dict[str, Environment]) -> None:
    """Print what happened to every model version, and why."""
    table = Table("when", "model", "what", "why", title="What happened, and why")
    for name, env in envs.items():
        for move in Registry(env).ledger.all():
            when, label = f"{move.closed_at or move.requested_at:%Y-%m-%d}", f"{name} v{move.version}"
            if move.to_stage == "Staging":
                table.add_row(when, label, "registered", move.request_reason)
            if move.status == "rejected":
                table.add_row(when, label, "[red]rejected[/]", f"{move.closed_by}: {move.reason}")
            elif move.to_stage == "Production":
                table.add_row(when, label, "[green]promoted[/]", move.reason)
    console.print(table)
