"""The comparison accepts a challenger that is no better no more often than its confidence says, however few blocks."""

from datetime import timedelta
from functools import cache

import numpy as np
import pytest

from mlplatform.config.sections import Comparison
from mlplatform.contract import Metric
from mlplatform.registry.comparison import Scored, Verdict, compare

SETTINGS = Comparison(block=timedelta(days=1), min_rows=1)
TRIES, PER_BLOCK = 400, 12
NOMINAL = (1 - SETTINGS.confidence) / 2
# Of TRIES tries with this chance each, more than so many are accepted once in a thousand times.
MOST = next(n for n in range(TRIES) if np.mean(np.random.default_rng(0).binomial(TRIES, NOMINAL, 100_000) > n) < 0.001)


def _auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """The area under the ROC curve, by ranks; scores do not tie here."""
    ranks, positive = np.argsort(np.argsort(scores)) + 1, labels == 1
    ones, zeros = positive.sum(), (~positive).sum()
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros)) if ones and zeros else np.nan


def _accuracy(labels: np.ndarray, scores: np.ndarray) -> float:
    return float(np.mean(scores.argmax(axis=1) == labels))


def _rmse(labels: np.ndarray, scores: np.ndarray) -> float:
    return float(np.sqrt(np.mean((labels - scores) ** 2)))


METRICS = {
    "binary": Metric("auc", _auc),
    "multiclass": Metric("accuracy", _accuracy),
    "number": Metric("rmse", _rmse, greater_is_better=False),
}


def a_try(
    kind: str, blocks: int, seed: int, worse: float = 1.0, uneven: bool = False, share: float | None = None
) -> Verdict:
    """Two models that err alike, each with good and bad days of its own.

    With `worse` the champion errs more, the challenger less. With `share` they score different rows, as in a canary.
    """
    random = np.random.default_rng(seed)
    sizes = np.full(blocks, PER_BLOCK)
    if uneven:
        sizes = (sizes * (1 + random.pareto(1.2, blocks))).astype(int)
    block = np.repeat(np.arange(blocks), sizes)
    rows = len(block)
    labels = {
        "binary": (random.random(rows) < 0.4).astype(float),
        "multiclass": random.integers(0, 3, rows),
        "number": random.normal(size=rows),
    }[kind]
    truth = np.eye(3)[labels] * 2 if kind == "multiclass" else labels

    def scores(error: float) -> np.ndarray:
        noise = random.normal(size=truth.shape) * error
        day = np.exp(random.normal(0, 0.4, blocks))[block]
        return truth + (noise.T * day).T

    ours, theirs = scores(1.0 / worse), scores(worse)
    if share is None:
        return compared(labels, ours, theirs, block, METRICS[kind])
    mine = random.permutation(rows) < share * rows
    mine[:: len(block) // blocks], mine[1 :: len(block) // blocks] = True, False  # each has rows of every block
    parts = (Scored(labels[kept], given[kept], block[kept]) for given, kept in ((ours, mine), (theirs, ~mine)))
    return compare(*parts, metric=METRICS[kind], settings=SETTINGS)


def compared(labels: np.ndarray, ours: np.ndarray, theirs: np.ndarray, block: np.ndarray, metric: Metric) -> Verdict:
    """Compare two models' scores of the same rows."""
    return compare(*(Scored(labels, scores, block) for scores in (ours, theirs)), metric=metric, settings=SETTINGS)


@cache
def accepted(kind: str, blocks: int, worse: float = 1.0, uneven: bool = False, tries: int = TRIES) -> int:
    return sum(a_try(kind, blocks, seed, worse, uneven).accepted for seed in range(tries))


@pytest.mark.parametrize("blocks", [1, 2, 5, 6, 10, 30])
@pytest.mark.parametrize("kind", METRICS)
def test_equal_models_are_accepted_no_more_often_than_the_confidence_says(kind: str, blocks: int) -> None:
    assert accepted(kind, blocks) <= MOST


@pytest.mark.parametrize("kind", METRICS)
def test_so_are_they_with_two_hundred_blocks(kind: str) -> None:
    tries = 100
    assert accepted(kind, 200, tries=tries) <= 9, "more than once in a thousand times by chance"


@pytest.mark.parametrize("share", [0.25, 0.5])
@pytest.mark.parametrize("blocks", [6, 30])
def test_so_are_they_where_each_has_scored_its_own_rows(blocks: int, share: float) -> None:
    assert sum(a_try("number", blocks, seed, share=share).accepted for seed in range(TRIES)) <= MOST
    assert sum(a_try("number", blocks, seed, worse=3.0, share=share).accepted for seed in range(50)) > 40


@pytest.mark.parametrize("blocks", [6, 30])
def test_one_large_block_is_no_reason_to_be_sure(blocks: int) -> None:
    assert accepted("number", blocks, uneven=True) <= MOST


@pytest.mark.parametrize("blocks", [1, 2, 5])
@pytest.mark.parametrize("kind", METRICS)
def test_with_too_few_blocks_nobody_can_be_known_to_be_better(kind: str, blocks: int) -> None:
    verdict = a_try(kind, blocks, 0, worse=20.0)
    assert not verdict.accepted
    assert f"rows of {blocks} blocks" in verdict.reason
    assert "registry.comparison.min_blocks is 6" in verdict.reason


@pytest.mark.parametrize("blocks", [6, 10, 30, 200])
@pytest.mark.parametrize("kind", METRICS)
def test_a_clearly_better_model_wins(kind: str, blocks: int) -> None:
    assert accepted(kind, blocks, worse=3.0, tries=20) >= 17


def test_the_interval_of_few_blocks_is_as_wide_as_a_t_test_says() -> None:
    """Of means, the jackknife's interval is that of Student's test on the blocks' own differences."""
    from scipy import stats

    random = np.random.default_rng(3)
    labels, block = np.zeros(60), np.repeat(np.arange(6), 10)
    ours, theirs = random.normal(0.0, 1, 60), random.normal(0.4, 1, 60)
    mean = Metric("mean", lambda labels, scores: float(np.mean(scores)), greater_is_better=False)
    verdict = compared(labels, ours, theirs, block, mean)
    days = (theirs - ours).reshape(6, 10).mean(axis=1)
    expected = stats.ttest_1samp(days, 0).confidence_interval(SETTINGS.confidence)
    assert (verdict.low, verdict.high) == pytest.approx((expected.low, expected.high))


def _scores(broken: float | None = None) -> np.ndarray:
    values = np.linspace(0, 1, 80)
    return values if broken is None else np.where(np.arange(80) == 7, broken, values)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("whose", ["challenger", "champion"])
def test_scores_that_are_not_finite_never_win(broken: float, whose: str) -> None:
    """The metric here does not look at them, as many would not: nothing else would tell."""
    blind = Metric("mean", lambda labels, scores: float(scores[np.isfinite(scores)].size))
    given = (_scores(broken), _scores()) if whose == "challenger" else (_scores(), _scores(broken))
    verdict = compared(np.arange(80.0), *given, np.arange(80) // 10, blind)
    assert not verdict.accepted
    assert verdict.reason == f"the {whose}'s scores of 1 of 80 rows are not finite numbers"


def test_a_metric_that_hangs_on_one_block_cannot_decide() -> None:
    labels, blocks = (np.arange(80) < 5).astype(float), np.arange(80) // 10
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 80))
    verdict = compared(labels, labels + noise[0], noise[1] - labels, blocks, METRICS["binary"])
    assert not verdict.accepted
    assert verdict.reason == "auc hangs on one block of rows: without it, it is not a finite number"
