"""The comparison gate: challenger against champion on the same rows, with a paired block bootstrap.

The interval is the percentile interval of Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 13;
blocks are resampled whole, as in ch. 8.6, because rows of one day have the day in common.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .settings import Comparison

Measure = Callable[[np.ndarray, np.ndarray], float]


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
    metric: str,
    measure: Measure,
    greater_is_better: bool,
    settings: Comparison,
) -> Verdict:
    """Compare two models' scores of the same rows; all arrays have the shape (n,), `blocks` names each row's block.
    `measure` computes the metric, NaN where it cannot.

    The challenger is accepted when its metric is better by at least the margin and the whole interval of the
    difference is above zero. Fewer rows than `min_rows`, or a metric that cannot be computed, is a refusal.
    """
    sign = 1.0 if greater_is_better else -1.0

    def difference(rows: np.ndarray | slice) -> float:
        return sign * (measure(labels[rows], challenger[rows]) - measure(labels[rows], champion[rows]))

    ours, theirs = measure(labels, challenger), measure(labels, champion)
    if len(labels) < settings.min_rows or not np.isfinite([ours, theirs]).all():
        reason = f"{len(labels):,} labelled rows cannot decide: registry.comparison.min_rows is {settings.min_rows:,}"
        return Verdict(metric, ours, theirs, np.nan, np.nan, np.nan, settings.margin, False, reason)

    groups = _rows_by_block(blocks)
    random = np.random.default_rng(0)
    draws = [
        difference(np.concatenate([groups[i] for i in random.integers(len(groups), size=len(groups))]))
        for _ in range(settings.resamples)
    ]
    tail = (1 - settings.confidence) / 2
    low, high = (float(edge) for edge in np.nanquantile(draws, [tail, 1 - tail]))
    observed = difference(slice(None))
    accepted = bool(low > 0 and observed >= settings.margin)
    reason = (
        f"{metric} {ours:.4f} against {theirs:.4f}: difference {observed:+.4f} "
        f"({settings.confidence:.0%} interval {low:+.4f} to {high:+.4f}, margin {settings.margin:g})"
    )
    return Verdict(metric, ours, theirs, observed, low, high, settings.margin, accepted, reason)


def _rows_by_block(blocks: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(blocks, kind="stable")
    _, starts = np.unique(blocks[order], return_index=True)
    return np.split(order, starts[1:])
