"""What a rollout has shown: the version in Staging against the champion, by the labels of what both have answered."""

from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

import polars as pl

from mlplatform.config.serving import ServingSettings
from mlplatform.environment import Run
from mlplatform.features.frames import with_labels
from mlplatform.registry import approval
from mlplatform.registry.comparison import Scored, Verdict, compare, record
from mlplatform.registry.store import Registry
from mlplatform.registry.tags import HeldOut
from mlplatform.registry.transitions import Decision, Transition
from mlplatform.storage import ops
from mlplatform.storage.catalog import Among, Span, Window


class Shown(NamedTuple):
    """The comparison so far, the prediction times that it is about, and whether it is the last one."""

    verdict: Verdict
    span: Span
    over: bool


def decides(registry: Registry) -> bool:
    """Whether the settings let a rollout decide, and there is a champion for it to be compared with."""
    return registry.env.config.of(ServingSettings).rollout.decides and registry.ledger.champion() is not None


def look(registry: Registry, request: Transition, run: Run) -> str | None:
    """Record what the rollout of a version that waits for Production has shown; returns what that adds to the reason.

    Where the settings let a rollout decide: None while it lasts, and None where it is lost, and the version rejected.
    """
    champion, settings = registry.ledger.champion(run.as_of), registry.env.config.of(ServingSettings).rollout
    if champion is None or settings.mode == "none":
        return ""
    shown = compare_rollout(registry, request.version, champion, run.as_of)
    if shown:
        record(registry, request.version, str(champion), shown.verdict, shown.span, run, settings.mode)
    if settings.decides_after is None:
        return f"; in its rollout: {shown.verdict.reason}" if shown else ""
    fallen = _fallen(registry, request.version)
    if fallen or (shown and shown.over and not shown.verdict.accepted):
        reason = f"in its rollout: {fallen or (shown and shown.verdict.reason)}"
        approval.reject(registry, request, Decision(run.as_of, "rollout", reason))
        run.note(f"version {request.version} rejected {reason}")
        return None
    if shown and shown.over:
        return f"; in its rollout: {shown.verdict.reason}"
    so_far = shown.verdict.reason if shown else "it has answered nothing yet"
    run.note(f"version {request.version} waits for its rollout: {so_far}")
    return None


def compare_rollout(registry: Registry, challenger: int, champion: int, as_of: datetime) -> Shown | None:
    """Compare what the two have answered since the challenger came to Staging; None where it has answered nothing.

    In the shadow both have scored the same rows. In a canary or A/B rollout each has scored its own, of the blocks in
    which both did. With `serving.rollout.decides_after` only what was answered in so long counts; it is over once the
    labels of that are in, and accepts nothing before.
    """
    env, settings = registry.env, registry.env.config.of(ServingSettings).rollout
    table = f"predictions.{registry.settings.model}"
    moves = registry.ledger.all()
    since = max(t.closed_at for t in moves if t.closed_at and (t.version, t.to_stage) == (challenger, "Staging"))
    place, variant = (f"{table}_shadow", "shadow") if settings.mode == "shadow" else (table, "challenger")
    mine = _answers(registry, place, since, as_of, challenger, variant)
    theirs = _answers(registry, table, since, as_of, champion, "champion")
    if mine.is_empty() or theirs.is_empty():
        return None
    first, last = mine["prediction_time"].min(), mine["prediction_time"].max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    over = True
    if settings.decides_after is not None:
        last = min(last, first + settings.decides_after)
        over = first + settings.decides_after + env.config.monitoring.label_delay <= as_of
    span = Span(first, last)
    mine, theirs = (rows.filter(pl.col("prediction_time").is_between(*span)) for rows in (mine, theirs))
    if settings.mode == "shadow":
        row = ["request_id", "request_row"]
        mine, theirs = mine.join(theirs, on=row, how="semi").sort(row), theirs.join(mine, on=row, how="semi").sort(row)
    ours, others = (_labelled(registry, rows, as_of) for rows in (mine, theirs))
    both = sorted(set(ours["block"]) & set(others["block"]))
    scored = [_scored(registry, rows.filter(pl.col("block").is_in(both))) for rows in (ours, others)]
    verdict = compare(*scored, metric=env.project.model.primary, settings=registry.settings.comparison)
    if not over:
        verdict = replace(verdict, accepted=False, reason=f"so far, {verdict.reason}")
    return Shown(verdict, span, over)


def _fallen(registry: Registry, challenger: int) -> str:
    """Why the rollback rule has taken the version out of the way; nothing where it has not."""
    alerts = registry.env.catalog.read(ops.ALERTS, ["rule", "slice", "message"]).to_pylist()
    mine = ("serving", f"version={challenger}")
    return next((alert["message"] for alert in alerts if (alert["rule"], alert["slice"]) == mine), "")


def _answers(
    registry: Registry, table: str, since: datetime, as_of: datetime, version: int, variant: str
) -> pl.DataFrame:
    """What a version has answered online as such, in (`since`, `as_of`]."""
    catalog = registry.env.catalog
    if not (catalog.exists(table) and "variant" in catalog.snapshot(table).schema.names):
        return pl.DataFrame()
    told = Among("variant", (variant,))
    rows = pl.DataFrame(catalog.read(table, where=Window("prediction_time", since, as_of, told)))
    return rows.filter(pl.col("model_version") == version)


def _labelled(registry: Registry, rows: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """The rows whose labels are known, with their blocks."""
    known = with_labels(registry.env, rows.to_arrow(), as_of).arrow()
    blocks = HeldOut(Span(as_of, as_of)).blocks(known, registry.settings.comparison.block)
    return pl.DataFrame(known).with_columns(block=pl.Series(blocks)).drop_nulls("label")


def _scored(registry: Registry, rows: pl.DataFrame) -> Scored:
    labels = registry.env.project.labels
    scores = rows.select(labels.score_columns).to_numpy()
    return Scored(rows["label"].to_numpy(), scores if labels.classes else scores[:, 0], rows["block"].to_numpy())
