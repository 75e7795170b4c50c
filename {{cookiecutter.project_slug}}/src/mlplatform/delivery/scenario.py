"""The life cycle step by step, on what an owner's deliveries bring: for the demonstration and the integration test."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import NamedTuple

from mlplatform.contract import Deliveries
from mlplatform.environment import Environment
from mlplatform.pipelines.deploy import deploy
from mlplatform.pipelines.featurize import featurize
from mlplatform.pipelines.infer import infer
from mlplatform.pipelines.ingest import ingest
from mlplatform.pipelines.monitor import monitor
from mlplatform.pipelines.retrain import retrain
from mlplatform.pipelines.train import train
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
