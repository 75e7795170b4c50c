"""Collect: take what servers have answered into the predictions."""

from datetime import datetime

from mlplatform.environment import Environment, Run
from mlplatform.serving.requests import take_in


def collect(env: Environment, as_of: datetime) -> Run:
    """Bring into `predictions.*` the requests up to `as_of` that the environment's log holds: each row once."""
    with env.run("collect", as_of) as run:
        take_in(env, run)
        return run
