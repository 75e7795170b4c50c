"""Materialize: publish the latest feature values where a server looks them up."""

from datetime import datetime

from mlplatform.environment import Environment, Run
from mlplatform.features.online import publish


def materialize(env: Environment, as_of: datetime, *, backfill: bool = False) -> Run:
    """Bring the online store to what the feature tables knew at `as_of`; with `backfill`, everything anew."""
    env.refuse_to_build_what_is_borrowed()
    with env.run("materialize", as_of) as run:
        for view, values in publish(env, as_of, whole=backfill).items():
            run.wrote(f"online {view}", values)
        return run
