"""Pipelines that begin at the same moment, in processes of their own."""

import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from mlplatform.environment import Environment
from mlplatform.storage import lease

# Seconds after which the lease of who was killed is free on an object store: a minute outside of tests. Fewer than
# these, and a busy machine renews that of the living too late.
EXPIRES = 10.0
PIPELINES = ("ingest", "featurize", "infer", "monitor", "train", "deploy", "maintain")
_IMPORTED = ("pytest", "tiny.project", "mlflow.sklearn", "optuna", "pandera.polars", "scipy.stats", "skops.io")


def at_once(
    folder: Path, pipelines: Sequence[str], as_of: datetime, overlays: Sequence[str], kills: Sequence[float | None]
) -> list[int | None]:
    """Run pipelines of prod at once, and kill each after so many seconds, if any; returns how each has ended."""
    places = [(str(folder), name, as_of, overlays, number) for number, name in enumerate(pipelines)]
    runs = [_forked().Process(target=_run, args=(*place, dict(os.environ))) for place in places]
    for run in runs:
        run.start()
    while not all((folder / f"{number}.ready").exists() for number in range(len(runs))):
        assert not any(run.exitcode for run in runs)
        time.sleep(0.01)
    (folder / "go").touch()
    gone = time.monotonic()
    for kill, run in sorted(zip(kills, runs, strict=True), key=lambda pair: pair[0] or 0):
        if kill is not None:
            time.sleep(max(0.0, gone + kill - time.monotonic()))
            run.kill()
    for run in runs:
        run.join()
    return [run.exitcode for run in runs]


@cache
def _forked() -> Any:
    """Processes are forked from one that has imported what they need, and done nothing: a campaign has thousands."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *_IMPORTED, *(f"mlplatform.pipelines.{name}" for name in PIPELINES)])
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    return context


def _run(
    folder: str, pipeline: str, as_of: datetime, overlays: Sequence[str], number: int, environment: dict[str, str]
) -> None:
    from tiny.project import PROJECT

    os.environ.update(environment)
    lease.EXPIRES = EXPIRES
    os.dup2(os.open(f"{folder}/{number}.said", os.O_WRONLY | os.O_CREAT), 2)
    env = Environment.load("prod", PROJECT, Path(folder), ("test", *overlays))
    run = getattr(import_module(f"mlplatform.pipelines.{pipeline}"), pipeline)
    _ = env.code
    Path(folder, f"{number}.ready").touch()
    while not Path(folder, "go").exists():
        time.sleep(0.001)
    run(env, as_of)
