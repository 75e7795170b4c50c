"""The integration test: every pipeline of staging in turn, on a subset, and a report for the merge request."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlplatform.contract import Deliveries
from mlplatform.delivery.scenario import Step, integration
from mlplatform.environment import Environment, Run
from mlplatform.errors import UserError
from mlplatform.registry.store import Registry
from mlplatform.storage import ops
from mlplatform.storage.address import put


class IntegrationError(UserError):
    """A pipeline failed, or the model did not get as far as staging's champion."""


@dataclass
class Line:
    """What one step of the test did; `error` is empty where it went well."""

    step: Step
    seconds: float
    said: str
    error: str = ""


def integrate(env: Environment, deliveries: Deliveries, report: Path) -> None:
    """Run every pipeline and write the report, also of a failure; raises IntegrationError with the first one."""
    lines: list[Line] = []
    for step in integration(env, deliveries):
        lines.append(_attempt(env, step))
        if lines[-1].error:
            break
    put(report, ("\n".join(_report(env, lines)) + "\n").encode())
    if lines[-1].error:
        raise IntegrationError(f"{lines[-1].step.what} as of {lines[-1].step.as_of}: {lines[-1].error}")


def _attempt(env: Environment, step: Step) -> Line:
    clock, said, error = time.perf_counter(), "", ""
    try:
        result = step.act()
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"
    else:
        runs = [run for run in (result if isinstance(result, list) else [result]) if isinstance(run, Run)]
        words = [f"{table}: {rows:,} rows" for run in runs for table, rows in run.written.items()]
        said = "; ".join(words + [note for run in runs for note in run.notes]) or "nothing due"
        if step.what == "deploy" and Registry(env).ledger.champion(step.as_of) is None:
            error = f"no version passed the gates, so nothing could be scored: {said}"
    return Line(step, time.perf_counter() - clock, said, error)


def _report(env: Environment, lines: list[Line]) -> Iterator[str]:
    yield f"## Integration test: {'failed' if lines[-1].error else 'passed'}\n"
    yield f"Every pipeline of {env.name}, on a subset, with code {env.code}.\n"
    yield "| pipeline | as of | | seconds | |\n| --- | --- | --- | --- | --- |"
    for line in lines:
        mark, text = ("failed", line.error) if line.error else ("passed", line.said)
        text = " ".join(text.replace("|", "\\|").split())[:1500]
        yield f"| {line.step.what} | {line.step.as_of:%Y-%m-%d} | {mark} | {line.seconds:.1f} | {text} |"
    yield from _models(env)
    yield from _alerts(env)


def _models(env: Environment) -> Iterator[str]:
    registry, primary = Registry(env), env.project.model.primary.name
    versions = registry.versions()
    if versions:
        yield f"\n| model | stage | {primary} | baseline |\n| --- | --- | --- | --- |"
    for version in versions:
        stage = registry.ledger.stage(int(version.version))
        tags = registry.tags(int(version.version))
        ours, baseline = (measured.get(primary, math.nan) for measured in (tags.metrics, tags.baseline))
        yield f"| {registry.model} version {version.version} | {stage} | {ours:.4f} | {baseline:.4f} |"


def _alerts(env: Environment) -> Iterator[str]:
    if env.catalog.exists(ops.ALERTS):
        rules = env.catalog.read(ops.ALERTS, ["rule"])["rule"].to_pylist()
        yield f"\nAlerts that monitoring raised: {', '.join(sorted(set(rules))) or 'none'}."
