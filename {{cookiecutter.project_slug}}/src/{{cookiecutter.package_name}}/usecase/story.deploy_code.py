"""The story of the demonstration, step by step.

First comes the history that the first models learn from; then time goes forward, stop by stop.
"""

from collections.abc import Callable, Iterator
from functools import partial

from ..environment import Environment
from ..lakehouse.settings import Settings as LakehouseSettings
from ..pipelines.deploy import deploy
from ..pipelines.featurize import featurize
from ..pipelines.infer import infer
from ..pipelines.ingest import ingest
from ..pipelines.monitor import monitor
from ..pipelines.retrain import retrain
from ..pipelines.train import train
from .replay import FIRST_RELEASE, STOPS, land

Step = tuple[str, Callable[[], object]]


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
