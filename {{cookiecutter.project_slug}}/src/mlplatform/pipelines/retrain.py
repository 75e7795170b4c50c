"""Retrain: train and deploy again, when the settings or an alert say that it is time."""

from collections.abc import Callable
from datetime import datetime

import polars as pl

from mlplatform.environment import Environment, Run
from mlplatform.monitoring.alerts import retraining_due
from mlplatform.pipelines.deploy import deploy
from mlplatform.pipelines.train import train
from mlplatform.storage import ops
from mlplatform.storage.catalog import Window


def retrain(env: Environment, as_of: datetime, announce: Callable[[str], None] = lambda text: None) -> list[Run]:
    """Train and deploy if it is due; returns the runs, none where it is not."""
    reason = due(env, as_of)
    if not reason:
        return []
    announce(reason)
    return [train(env, as_of, reason=reason), deploy(env, as_of)]


def due(env: Environment, as_of: datetime) -> str:
    """Why to train at `as_of`, or nothing. What ran at this very `as_of` does not count: it can be run again."""
    settings = env.config.pipelines.retraining
    last = env.last_finished("train", before=as_of)
    if settings.mode == "scheduled" and (last is None or as_of - last >= settings.every):
        return f"scheduled every {settings.every.days} days"
    if settings.mode == "triggered":
        raised = env.catalog_of(settings.alerts_from or env.name).read(
            ops.ALERTS, where=Window("raised_at", until=as_of)
        )
        alerts = pl.DataFrame(raised)
        alert = retraining_due(alerts, last, settings.cooldown, as_of)
        return f"alert {alert.rule}: {alert.message}" if alert else ""
    return ""
