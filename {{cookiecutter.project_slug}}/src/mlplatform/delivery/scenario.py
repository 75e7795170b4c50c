"""The life cycle step by step, on what an owner's deliveries bring: for the demonstration and the integration test.

The integration test takes every pipeline of staging in turn, on a subset, and reports to the merge request.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mlplatform.contract import Deliveries
from mlplatform.environment import Environment, Run
from mlplatform.errors import UserError
from mlplatform.pipelines.deploy import deploy
from mlplatform.pipelines.featurize import featurize
from mlplatform.pipelines.infer import infer
from mlplatform.pipelines.ingest import ingest
from mlplatform.pipelines.monitor import monitor
from mlplatform.pipelines.train import retrain, train
from mlplatform.registry.store import Registry
from mlplatform.storage import ops
from mlplatform.storage.catalog import option
from mlplatform.storage.landing import delivering


class Step(NamedTuple):
    """One call of a pipeline, or a delivery."""

    place: str
    what: str
    as_of: datetime
    act: Callable[[], object]


def demonstration(envs: Mapping[str, Environment], deliveries: Deliveries) -> Iterator[Step]:
    """First the history that the first models learn from; then time goes forward, stop by stop."""
    dev, staging, prod = envs["dev"], envs["staging"], envs["prod"]
    promoted, start = promoting(prod) is not None, deliveries.first
    yield deliver(prod, deliveries, start)
    yield from prepare(prod, start)
    yield from prepare(dev, start)
    yield from new_model(dev, start, "first model")
    yield from prepare(staging, start)
    yield from new_model(staging, start, "first model")
    yield from new_model(prod, start, "first model")
    for stop in deliveries.stops:
        yield deliver(prod, deliveries, stop)
        yield from use(prod, stop)
        if promoted:
            yield from prepare(dev, stop)
            yield Step("dev", "retrain", stop, partial(retrain, dev, stop))
            yield from prepare(staging, stop)
            yield from new_model(staging, stop, "")
            yield from new_model(prod, stop, "")
        else:
            if stop == deliveries.stops[0]:
                yield from use(staging, stop)
            yield Step("prod", "retrain", stop, partial(retrain, prod, stop))


def integration(env: Environment, deliveries: Deliveries) -> Iterator[Step]:
    """Every pipeline of one environment, on little data; the model is trained here whatever the pattern."""
    start, end = deliveries.integration
    yield deliver(env, deliveries, start)
    yield from prepare(env, start)
    yield Step(env.name, "train", start, partial(train, env, start, reason="integration test"))
    yield Step(env.name, "deploy", start, partial(deploy, env, start))
    yield deliver(env, deliveries, end)
    yield from use(env, end)
    yield Step(env.name, "retrain", end, partial(retrain, env, end))


def deliver(env: Environment, deliveries: Deliveries, until: datetime) -> Step:
    """Let the sources deliver."""

    def act() -> Mapping[str, int]:
        with delivering(env.landing) as landing:
            return deliveries.deliver(landing, until)

    return Step("sources", "deliver", until, act)


def prepare(env: Environment, as_of: datetime) -> Iterator[Step]:
    """Tables and features, where they are not another environment's."""
    if env.sources is not env.catalog:
        return
    yield Step(env.name, "ingest", as_of, partial(ingest, env, as_of))
    yield Step(env.name, "featurize", as_of, partial(featurize, env, as_of))


def new_model(env: Environment, as_of: datetime, reason: str) -> Iterator[Step]:
    """A version of the environment's own, trained here or promoted, and its way through the gates."""
    if promote := promoting(env):
        yield Step(env.name, "promote", as_of, partial(promote, env, as_of))
    else:
        yield Step(env.name, "train", as_of, partial(train, env, as_of, reason=reason))
    yield Step(env.name, "deploy", as_of, partial(deploy, env, as_of))


def promoting(env: Environment) -> Callable[..., object] | None:
    """The pipeline that promotes models, where the environment's come from another one."""
    found = option("mlplatform.pipelines.promote:promoting")
    promote: Callable[..., object] | None = found(env) if found else None
    return promote


def use(env: Environment, as_of: datetime) -> Iterator[Step]:
    """Score what became due, and watch it."""
    yield from prepare(env, as_of)
    yield Step(env.name, "infer", as_of, partial(infer, env, as_of))
    yield Step(env.name, "monitor", as_of, partial(monitor, env, as_of))


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
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text("\n".join(_report(env, lines)) + "\n", encoding="utf-8")
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
