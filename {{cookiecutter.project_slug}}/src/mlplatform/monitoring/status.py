"""Status: where an environment stands, in a few lines."""

from collections.abc import Iterator
from datetime import datetime

import polars as pl

from mlplatform.environment import Environment
from mlplatform.registry.store import Registry
from mlplatform.storage import ops
from mlplatform.storage.catalog import Window


def status(env: Environment, as_of: datetime) -> Iterator[str]:
    """Yield the champion, what waits for whom, the last run of each pipeline, and the newest alerts."""
    registry = Registry(env)
    champion = registry.ledger.champion(as_of)
    yield f"{env.name}, code {env.code}"
    yield f"champion: {f'{registry.model} version {champion}' if champion else 'none yet'}"
    for request in registry.ledger.pending("Staging", as_of):
        yield f"waiting: version {request.version} for the gates (deploy), since {request.requested_at}"
    for request in registry.ledger.pending("Production", as_of):
        yield f"waiting: version {request.version} for approval (registry approve), since {request.requested_at}"
    yield from _last_runs(env, as_of)
    yield from _newest_alerts(env, as_of)


def _last_runs(env: Environment, as_of: datetime) -> Iterator[str]:
    columns = ["pipeline", "as_of", "started_at", "seconds", "status", "error"]
    runs = pl.DataFrame(env.catalog.read(ops.RUNS, columns, Window("as_of", until=as_of)))
    for run in runs.sort("started_at").unique("pipeline", keep="last").sort("pipeline").iter_rows(named=True):
        failure = f": {run['error']}" if run["error"] else ""
        yield f"{run['pipeline']:<10} {run['status']} as of {run['as_of']} in {run['seconds']:.1f} s{failure}"


def _newest_alerts(env: Environment, as_of: datetime) -> Iterator[str]:
    alerts = pl.DataFrame(env.catalog.read(ops.ALERTS, where=Window("raised_at", until=as_of)))
    for alert in alerts.sort("raised_at", descending=True).head(5).iter_rows(named=True):
        yield f"alert {alert['raised_at']} {alert['rule']}: {alert['message']}"
