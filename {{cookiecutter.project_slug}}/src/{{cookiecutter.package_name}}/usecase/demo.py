"""The demonstration: the sample through dev, staging and prod, in one process.

`story.py` has the steps. Nothing here decides anything: what is promoted, refused or retrained follows from the data
and conf/*.yml.
"""

import shutil
import subprocess
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
from ..pipelines.monitor import publish
from ..registry.store import Registry
from .story import story

AUTHOR = "demo@localhost"


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
            if not console.is_terminal:  # no bar is drawn there
                console.print(description)
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


def summarise(console: Console, envs: dict[str, Environment]) -> None:
    """Print what happened to every model version, and why."""
    table = Table("when", "model", "what", "why", title="What happened, and why")
    for name, env in envs.items():
        for move in Registry(env).ledger.all():
            when, label = f"{move.closed_at or move.requested_at:%Y-%m-%d}", f"{name} v{move.version}"
            if move.to_stage == "Staging":
                table.add_row(when, label, "registered", move.request_reason)
            if move.status == "rejected":
                table.add_row(when, label, "[red]refused[/]", f"{move.closed_by}: {move.reason}")
            elif move.to_stage == "Production":
                table.add_row(when, label, "[green]promoted[/]", move.reason)
    console.print(table)
