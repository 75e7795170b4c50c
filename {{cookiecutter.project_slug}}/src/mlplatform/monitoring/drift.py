"""How far a column has moved from its reference: the usual distances, exact, fast enough for a million rows.

Sources. PSI: N. Siddiqi, Credit Risk Scorecards (2006); its expected size under no drift: B. Yurdakul and J.
Naranjo, Statistical properties of the population stability index (2020). Two-sample Kolmogorov-Smirnov
statistic and Wasserstein-1 as the area between two distribution functions: S. Vallender, Calculation of the
Wasserstein distance between probability distributions on the line (1974). Jensen-Shannon distance: D. Endres
and J. Schindelin, A new metric for probability distributions (2003), in base 2, so 0 to 1. Chi-squared test
of homogeneity: K. Pearson (1900), with categories of expected count below 5 pooled, as W. Cochran advises
(1954).

A nominal p-value says little on large windows, where every difference is significant: set limits on
distances.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import chdtrc

Floats = NDArray[np.float64]
NUMERIC = ("psi", "ks", "wasserstein")
CATEGORICAL = ("psi", "jensen_shannon", "chi_squared", "chi_squared_p")
_PART = 4_096  # values of both sides compared at once: what fits a processor's cache


def compare(reference: pl.Series, current: pl.Series, bins: int = 10) -> dict[str, float]:
    """Return the drift metrics of one column: `NUMERIC` for numbers, `CATEGORICAL` for text and booleans.

    Values that are null, NaN or infinite count as missing. The missing are one more bin of PSI and one more
    category; KS and Wasserstein describe the values that are there and are left out where either side has
    none. An empty side gives no metric at all. Raises TypeError where one side holds numbers and the other
    does not.
    """
    kinds = [s.dtype.is_numeric() for s in (reference, current) if s.dtype != pl.Null]
    if len(set(kinds)) > 1:
        raise TypeError(f"{current.name}: {current.dtype} cannot be compared with a reference of {reference.dtype}")
    if reference.is_empty() or current.is_empty():
        return {}
    return _numeric(reference, current, bins) if kinds and kinds[0] else _categorical(reference, current)


def psi(reference: Floats, current: Floats) -> float:
    """Return the population stability index of two vectors of counts over the same bins.

    Half a row is added to each bin, so that a bin that is empty on one side is finite; a bin empty on both is
    dropped.
    """
    used = (reference + current) > 0
    p, q = reference[used] + 0.5, current[used] + 0.5
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())


def jensen_shannon(reference: Floats, current: Floats) -> float:
    """Return the Jensen-Shannon distance (base 2, 0 to 1) of two vectors of counts over the same bins."""
    p, q = reference / reference.sum(), current / current.sum()
    middle = (p + q) / 2
    divergence = sum(float((s[s > 0] * np.log2(s[s > 0] / middle[s > 0])).sum()) for s in (p, q)) / 2
    return float(np.sqrt(max(divergence, 0.0)))


def chi_squared(reference: Floats, current: Floats) -> tuple[float, float]:
    """Return Pearson's statistic and its p-value for equal distributions over the same categories."""
    table = np.stack([reference, current])
    totals = table.sum(axis=1, keepdims=True)
    rare = (table.sum(axis=0) * totals.min() / totals.sum()) < 5
    table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)]) if rare.any() else table
    expected = totals * table.sum(axis=0) / totals.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    return statistic, float(chdtrc(table.shape[1] - 1, statistic)) if table.shape[1] > 1 else 1.0


def ks_and_wasserstein(reference: Floats, current: Floats) -> tuple[float, float]:
    """Return the exact two-sample KS statistic and Wasserstein-1, in standard deviations of the reference.

    Both arguments are sorted and hold at least one finite value. Where the reference is a constant the
    distance is 0 if the current values equal it, else infinite.
    """
    values = np.concatenate([reference, current])
    values.sort(kind="stable")  # two sorted runs: one merge
    largest = area = 0.0
    for start in range(0, values.size, _PART):
        part = values[start : start + _PART + 1]  # the next part's first value is where this one's last step ends
        gap = np.abs(_share_up_to(part[:_PART], reference) - _share_up_to(part[:_PART], current))
        largest = max(largest, float(gap.max()))
        area += float(gap[: part.size - 1] @ np.diff(part))
    if reference[0] == reference[-1]:
        return largest, np.inf if area else 0.0
    return largest, area / float(reference.std())


def _share_up_to(values: Floats, ordered: Floats) -> Floats:
    """The share of `ordered` that is not above each of `values`; both are sorted."""
    first, last = np.searchsorted(ordered, values[0]), np.searchsorted(ordered, values[-1], side="right")
    share: Floats = (first + np.searchsorted(ordered[first:last], values, side="right")) / ordered.size
    return share


def _numeric(reference: pl.Series, current: pl.Series, bins: int) -> dict[str, float]:
    (old, old_missing), (new, new_missing) = _sorted_values(reference), _sorted_values(current)
    quantiles = np.unique(np.quantile(old, np.arange(1, bins) / bins)) if old.size else old
    # What lies below the whole reference has a bin of its own: else a constant that falls would not be seen.
    edges = np.append(np.nextafter(old[:1], -np.inf), quantiles)
    shares = psi(_binned(old, edges, old_missing), _binned(new, edges, new_missing))
    if not old.size or not new.size:
        return {"psi": shares}
    return dict(zip(NUMERIC, (shares, *ks_and_wasserstein(old, new)), strict=True))


def _sorted_values(column: pl.Series) -> tuple[Floats, int]:
    values = column.cast(pl.Float64).drop_nulls().to_numpy()
    finite = values[np.isfinite(values)]
    finite.sort()
    return finite, len(column) - finite.size


def _binned(ordered: Floats, edges: Floats, missing: int) -> Floats:
    ends = np.searchsorted(ordered, edges, side="right")
    return np.append(np.diff(ends, prepend=0, append=ordered.size), missing).astype(np.float64)


def _categorical(reference: pl.Series, current: pl.Series) -> dict[str, float]:
    old, new = (pl.DataFrame({"category": s.cast(pl.String)}).group_by("category").len() for s in (reference, current))
    counts = old.join(new, on="category", how="full", nulls_equal=True, coalesce=True).sort("category")
    p, q = (counts[name].cast(pl.Float64).fill_null(0.0).to_numpy() for name in ("len", "len_right"))
    return dict(zip(CATEGORICAL, (psi(p, q), jensen_shannon(p, q), *chi_squared(p, q)), strict=True))
