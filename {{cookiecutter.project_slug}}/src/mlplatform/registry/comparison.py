"""The comparison gate: challenger against champion, with a block jackknife: paired where both scored the same rows.

The interval is Student's, around the observed difference, with the jackknife's standard error (Efron and Tibshirani, An
Introduction to the Bootstrap, 1993, ch. 11). Whole blocks are left out, because rows of one day have the day in common.
Where blocks differ in size, the degrees of freedom count them by their weight (Kish, Survey Sampling, 1965, ch. 11).
So equal models are accepted no more often than `confidence` says, for few blocks too.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.special import stdtrit

from mlplatform.config.sections import Comparison
from mlplatform.contract import Measure, Metric
from mlplatform.environment import Run
from mlplatform.features.frames import labelled_sample
from mlplatform.registry.baseline import baseline_scores
from mlplatform.registry.scoring import VersionScorer
from mlplatform.registry.store import Registry
from mlplatform.storage import ops
from mlplatform.storage.catalog import Span, Window

BASELINE = "baseline"

_MOST_BLOCKS = 100  # more are joined with their neighbours: it costs less and says the same


@dataclass(frozen=True)
class Verdict:
    """What the comparison found, by the names of columns of `ops.comparisons`.

    `difference`, `low` and `high` are positive where the challenger is better.
    """

    metric: str
    challenger_score: float
    champion_score: float
    difference: float
    low: float
    high: float
    margin: float
    accepted: bool
    reason: str


class Scored(NamedTuple):
    """Rows as one model has scored them: labels of shape (n,), scores (n,) or (n, classes), and each row's block."""

    labels: np.ndarray
    scores: np.ndarray
    blocks: np.ndarray


def compare_versions(registry: Registry, challenger: int, champion: int | None, as_of: datetime) -> Verdict:
    """Score the challenger's held-out rows with both, or with the baseline where there is no champion."""
    env, held_out = registry.env, registry.tags(challenger).held_out
    training = env.config.training
    rows = labelled_sample(env, as_of, *held_out.span, training.fraction, training.max_rows).rows.arrow()
    rows = rows.filter(pa.array(held_out.chosen(rows)))
    frame = rows.to_pandas()
    if champion is None:
        fitted = pd.read_parquet(registry.files(challenger, "baseline.parquet"))
        theirs = baseline_scores(fitted, frame, env.project.labels)
    else:
        theirs = VersionScorer(registry, champion)(frame)
    settings, labels = registry.settings.comparison, frame["label"].to_numpy()
    blocks = held_out.blocks(rows, settings.block)
    ours = VersionScorer(registry, challenger)(frame)
    both = (Scored(labels, scores, blocks) for scores in (ours, theirs))
    return compare(*both, metric=env.project.model.primary, settings=settings)


def comparisons(registry: Registry) -> list[dict[str, Any]]:
    """The rows of `ops.comparisons`; those of earlier releases say of a rollout in `champion`: `3 (shadow)`."""
    rows: list[dict[str, Any]] = registry.env.catalog.read(ops.COMPARISONS).to_pylist()
    for row in rows:
        row["champion"], _, rollout = row["champion"].partition(" (")
        row["rollout"] = row["rollout"] or rollout.removesuffix(")")
    return rows


def record(
    registry: Registry, challenger: int, champion: str, verdict: Verdict, span: Span, run: Run, rollout: str = ""
) -> None:
    """Write a comparison into `ops.comparisons`; `span` are the prediction times of its rows."""
    row = {
        "model": registry.model,
        "challenger": challenger,
        "champion": champion,
        "rollout": rollout,
        "window_start": span.start,
        "window_end": span.end,
        "as_of": run.as_of,
        **asdict(verdict),
    }
    keys = ("model", "challenger", "champion", "rollout", "as_of")
    others = [other for other in comparisons(registry) if any(other[key] != row[key] for key in keys)]
    everything = Window("as_of")  # it is small, and may lack the column `rollout`
    registry.env.catalog.replace(ops.COMPARISONS, ops.rows(ops.COMPARISONS, [*others, row]), everything)
    run.wrote(ops.COMPARISONS, 1)


def compare(challenger: Scored, champion: Scored, *, metric: Metric, settings: Comparison) -> Verdict:
    """Compare what two models have scored, the same rows or different ones; each has rows of every block.

    The challenger is accepted when its metric is better by at least the margin and the whole interval of the
    difference is above zero. Where that cannot be known it is refused, with the setting or the metric that says so.
    """
    sign, measure = 1.0 if metric.greater_is_better else -1.0, metric.measure
    names, block = np.unique(np.concatenate([challenger.blocks, champion.blocks]), return_inverse=True)
    fewest = min(len(challenger.labels), len(champion.labels))

    def undecided(reason: str, ours: float = np.nan, theirs: float = np.nan) -> Verdict:
        return Verdict(metric.name, ours, theirs, np.nan, np.nan, np.nan, settings.margin, False, reason)

    if fewest < settings.min_rows:
        return undecided(
            f"{fewest:,} labelled rows cannot decide: registry.comparison.min_rows is {settings.min_rows:,}"
        )
    if len(names) < settings.min_blocks:
        return undecided(
            f"rows of {len(names)} blocks (spans of registry.comparison.block, or groups) cannot decide: "
            f"registry.comparison.min_blocks is {settings.min_blocks}"
        )
    for whose, (labels, scores, _) in (("challenger", challenger), ("champion", champion)):
        if broken := int((~np.isfinite(scores.reshape(len(labels), -1))).any(axis=1).sum()):
            return undecided(f"the {whose}'s scores of {broken:,} of {len(labels):,} rows are not finite numbers")
    ours, theirs = (float(measure(rows.labels, rows.scores)) for rows in (challenger, champion))
    if not np.isfinite([ours, theirs]).all():
        return undecided(f"{metric.name} of the {fewest:,} labelled rows is not a finite number", ours, theirs)

    block = block * min(_MOST_BLOCKS, len(names)) // len(names)
    weights = np.bincount(block) / len(block)
    ours_of, theirs_of = np.split(block, [len(challenger.labels)])
    without = zip(_without(measure, challenger, ours_of), _without(measure, champion, theirs_of), strict=True)
    left_out = sign * np.array([mine - other for mine, other in without])
    if not np.isfinite(left_out).all():
        return undecided(
            f"{metric.name} hangs on one block of rows: without it, it is not a finite number", ours, theirs
        )
    count, observed = len(weights), sign * (ours - theirs)
    error = float(np.sqrt((count - 1) / count * np.sum((left_out - observed) ** 2)))
    freedom = 1 / np.sum(weights**2) - 1
    reach = float(stdtrit(freedom, (1 + settings.confidence) / 2)) * error
    low, high = observed - reach, observed + reach
    reason = (
        f"{metric.name} {ours:.4f} against {theirs:.4f}: difference {observed:+.4f} "
        f"({settings.confidence:.0%} interval {low:+.4f} to {high:+.4f}, margin {settings.margin:g}; "
        f"{fewest:,} rows in {len(names)} blocks)"
    )
    accepted = bool(low > 0 and observed >= settings.margin)
    return Verdict(metric.name, ours, theirs, observed, low, high, settings.margin, accepted, reason)


def _without(measure: Measure, rows: Scored, block: np.ndarray) -> Iterator[float]:
    """The metric without each block in turn."""
    labels, scores, _ = rows
    if scores.ndim == 1:  # most metrics sort rows by score, which is quick where they are sorted already
        order = np.argsort(scores)
        labels, scores, block = labels[order], scores[order], block[order]
    for left_out in range(block.max() + 1):
        kept = block != left_out
        yield measure(labels[kept], scores[kept])
