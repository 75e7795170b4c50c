"""The comparison gate: challenger against champion on the same rows, with a paired block bootstrap.

The interval is the percentile interval of Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 13;
blocks are resampled whole, as in ch. 8.6, because rows of one day have the day in common.
"""

from dataclasses import dataclass

import numpy as np

from mlplatform.config.registry import Comparison
from mlplatform.contract import Metric


@dataclass(frozen=True)
class Verdict:
    """What the comparison found. `difference`, `low` and `high` are positive where the challenger is better."""

    metric: str
    challenger: float
    champion: float
    difference: float
    low: float
    high: float
    margin: float
    accepted: bool
    reason: str


def compare(
    labels: np.ndarray,
    challenger: np.ndarray,
    champion: np.ndarray,
    blocks: np.ndarray,
    *,
    metric: Metric,
    settings: Comparison,
) -> Verdict:
    """Compare two models' scores of the same rows; `blocks` names each row's block.

    The challenger is accepted when its metric is better by at least the margin and the whole interval of the
    difference is above zero. Fewer rows than `min_rows`, or a metric that cannot be computed, is a refusal.
    """
    sign, measure = 1.0 if metric.greater_is_better else -1.0, metric.measure
    ours, theirs = measure(labels, challenger), measure(labels, champion)
    if len(labels) < settings.min_rows or not np.isfinite([ours, theirs]).all():
        reason = f"{len(labels):,} labelled rows cannot decide: registry.comparison.min_rows is {settings.min_rows:,}"
        return Verdict(metric.name, ours, theirs, np.nan, np.nan, np.nan, settings.margin, False, reason)

    _, block = np.unique(blocks, return_inverse=True)
    count = int(block.max()) + 1
    pair = challenger, champion
    # Rows in the order of their score: most metrics sort them, which is quick where they are sorted already.
    by_ours, by_theirs = (np.argsort(scores) if scores.ndim == 1 else np.arange(len(scores)) for scores in pair)
    random = np.random.default_rng(0)
    draws = []
    for _ in range(settings.resamples):
        times = np.bincount(random.integers(count, size=count), minlength=count)[block]
        mine, other = np.repeat(by_ours, times[by_ours]), np.repeat(by_theirs, times[by_theirs])
        draws.append(sign * (measure(labels[mine], challenger[mine]) - measure(labels[other], champion[other])))
    tail = (1 - settings.confidence) / 2
    low, high = (float(edge) for edge in np.nanquantile(draws, [tail, 1 - tail]))
    observed = sign * (ours - theirs)
    accepted = bool(low > 0 and observed >= settings.margin)
    reason = (
        f"{metric.name} {ours:.4f} against {theirs:.4f}: difference {observed:+.4f} "
        f"({settings.confidence:.0%} interval {low:+.4f} to {high:+.4f}, margin {settings.margin:g})"
    )
    return Verdict(metric.name, ours, theirs, observed, low, high, settings.margin, accepted, reason)
