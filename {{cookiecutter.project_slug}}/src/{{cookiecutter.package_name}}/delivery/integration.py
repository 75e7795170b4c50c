"""The integration test: every pipeline of staging in turn, on a subset, and a report for the merge request."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from ..environment import Environment, Run
from ..pipelines.deploy import deploy
from ..pipelines.featurize import featurize
from ..pipelines.infer import infer
from ..pipelines.ingest import ingest
from ..pipelines.monitor import ALERTS, monitor
from ..pipelines.retrain import retrain
from ..pipelines.train import train
from ..registry.store import Registry
from ..usecase import model
from ..usecase.integration import END, START

Step = tuple[str, datetime, Callable[[], object]]


class IntegrationError(Exception):
    """A pipeline failed, or the model did not get as far as staging's champion."""


@dataclass
class Line:
    """What one step of the test did; `error` is empty where it went well."""

    pipeline: str
    as_of: datetime
    seconds: float
    said: str
    error: str = ""


def integrate(env: Environment, report: Path) -> None:
    """Run every pipeline and write the report, also of a failure; raises IntegrationError with the first one."""
    lines: list[Line] = []
    for pipeline, as_of, act in _steps(env):
        lines.append(_attempt(pipeline, as_of, act))
        if lines[-1].error:
            break
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text("\n".join(_report(env, lines)) + "\n", encoding="utf-8")
    if lines[-1].error:
        raise IntegrationError(f"{lines[-1].pipeline} as of {lines[-1].as_of}: {lines[-1].error}")


def _steps(env: Environment) -> Iterator[Step]:
    yield "ingest", START, lambda: ingest(env, START)
    yield "featurize", START, lambda: featurize(env, START)
    yield "train", START, lambda: train(env, START, reason="integration test")
    yield "deploy", START, lambda: deploy(env, START)
    yield "champion", START, lambda: _champion(env)
    yield "ingest", END, lambda: ingest(env, END)
    yield "featurize", END, lambda: featurize(env, END)
    yield "infer", END, lambda: infer(env, END)
    yield "monitor", END, lambda: monitor(env, END)
    yield "retrain", END, lambda: retrain(env, END)


def _champion(env: Environment) -> Run:
    """What is scored and monitored: without it the rest of the test would say nothing."""
    champion = Registry(env).ledger.champion(START)
    if champion is None:
        raise IntegrationError("no version passed the gates, which compare it with the baseline")
    return Run("champion", START, notes=[f"version {champion}"])


def _attempt(pipeline: str, as_of: datetime, act: Callable[[], object]) -> Line:
    clock, said, error = time.perf_counter(), "", ""
    try:
        result = act()
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"
    else:
        runs = [run for run in (result if isinstance(result, list) else [result]) if isinstance(run, Run)]
        words = [f"{table}: {rows:,} rows" for run in runs for table, rows in run.written.items()]
        said = "; ".join(words + [note for run in runs for note in run.notes]) or "nothing due"
    return Line(pipeline, as_of, time.perf_counter() - clock, said, error)


def _report(env: Environment, lines: list[Line]) -> Iterator[str]:
    yield f"## Integration test: {'failed' if lines[-1].error else 'passed'}\n"
    yield f"Every pipeline of {env.name}, on a subset, with code {env.code}.\n"
    yield "| pipeline | as of | | seconds | |\n| --- | --- | --- | --- | --- |"
    for line in lines:
        mark, text = ("failed", line.error) if line.error else ("passed", line.said)
        text = " ".join(text.replace("|", "\\|").split())[:1500]
        yield f"| {line.pipeline} | {line.as_of:%Y-%m-%d} | {mark} | {line.seconds:.1f} | {text} |"
    yield from _models(env)
    yield from _alerts(env)


def _models(env: Environment) -> Iterator[str]:
    registry = Registry(env)
    versions = registry.versions()
    if versions:
        yield f"\n| model | stage | {model.PRIMARY_METRIC} | baseline |\n| --- | --- | --- | --- |"
    for version in versions:
        stage = registry.ledger.stage(int(version.version))
        ours, baseline = (float(version.tags[f"{kind}.{model.PRIMARY_METRIC}"]) for kind in ("metric", "baseline"))
        yield f"| {registry.model} version {version.version} | {stage} | {ours:.4f} | {baseline:.4f} |"


def _alerts(env: Environment) -> Iterator[str]:
    if env.tables.exists(ALERTS):
        alerts = pl.DataFrame(pl.from_arrow(env.tables.read(ALERTS)))
        yield f"\nAlerts that monitoring raised: {', '.join(sorted(set(alerts['rule']))) or 'none'}."
