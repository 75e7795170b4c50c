"""The comparison gate: a challenger must be better by more than chance and the margin, on enough rows."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from mlplatform.config.sections import Comparison
from mlplatform.contract import Measure, Metric
from mlplatform.registry.comparison import Scored, Verdict, compare
from tiny.model import Estimate

ROWS = 2000
SETTINGS = Comparison(block=timedelta(days=1), min_rows=500)
Array = np.ndarray[Any, Any]


def accuracy(labels: Array, scores: Array) -> float:
    return float(np.mean((scores > 0.5) == (labels > 0.5))) if len(labels) else np.nan


def error(labels: Array, scores: Array) -> float:
    return float(np.mean(np.abs(labels - scores))) if len(labels) else np.nan


def labels(rows: int = ROWS) -> Array:
    return np.random.default_rng(1).integers(0, 2, rows).astype(float)


def right(share: float, seed: int = 2, rows: int = ROWS) -> Array:
    """Scores that are right for this share of the rows."""
    wrong = np.random.default_rng(seed).random(rows) > share
    return np.where(wrong, 1 - labels(rows), labels(rows))


def judged(
    challenger: Array, champion: Array, *, measure: Measure = accuracy, greater: bool = True, **given: Any
) -> Verdict:
    blocks = given.pop("blocks", np.arange(len(challenger)) // 50)
    settings = SETTINGS.model_copy(update=given)
    both = (Scored(labels(len(scores)), scores, blocks) for scores in (challenger, champion))
    return compare(*both, metric=Metric("accuracy", measure, greater), settings=settings)


def test_a_better_challenger_is_accepted_with_the_numbers() -> None:
    verdict = judged(right(0.9), right(0.7))
    assert verdict.accepted
    assert verdict.challenger_score == pytest.approx(0.9, abs=0.03)
    assert verdict.champion_score == pytest.approx(0.7, abs=0.03)
    assert verdict.difference == pytest.approx(verdict.challenger_score - verdict.champion_score)
    assert 0 < verdict.low < verdict.difference < verdict.high
    assert verdict.reason.startswith(
        f"accuracy {verdict.challenger_score:.4f} against {verdict.champion_score:.4f}: difference +0."
    )


def test_rows_that_nearly_all_lie_in_one_block_are_as_good_as_one_block() -> None:
    rows = np.arange(ROWS)
    uneven = np.where(rows < 0.9 * ROWS, 0, rows // 10)
    assert len(np.unique(uneven)) > len(np.unique(rows // 100))
    assert judged(right(0.9), right(0.7), blocks=rows // 100).accepted
    verdict = judged(right(0.9), right(0.7), blocks=uneven)
    assert not verdict.accepted
    assert verdict.low < 0 < verdict.difference


def test_a_worse_challenger_is_refused() -> None:
    verdict = judged(right(0.7), right(0.9))
    assert not verdict.accepted
    assert verdict.high < 0
    assert "accuracy" in verdict.reason


def test_a_challenger_is_not_better_than_itself() -> None:
    verdict = judged(right(0.9), right(0.9))
    assert not verdict.accepted
    assert (verdict.difference, verdict.low, verdict.high) == (0, 0, 0)


def test_a_challenger_that_is_better_by_chance_is_refused() -> None:
    verdict = judged(right(0.9, seed=3), right(0.9, seed=4))
    assert not verdict.accepted
    assert verdict.low < 0 < verdict.high


@pytest.mark.parametrize(("margin", "accepted"), [(0.0, True), (0.1, True), (0.3, False)])
def test_the_challenger_has_to_be_better_by_the_margin(margin: float, accepted: bool) -> None:
    assert judged(right(0.9), right(0.7), margin=margin).accepted is accepted


def test_where_less_is_better_the_smaller_error_wins() -> None:
    near, far = labels() + 0.1, labels() + 0.3
    assert judged(near, far, measure=error, greater=False).accepted
    worse = judged(far, near, measure=error, greater=False)
    assert not worse.accepted
    assert worse.difference == pytest.approx(-0.2)


def test_too_few_rows_cannot_decide() -> None:
    verdict = judged(right(0.99, rows=499), right(0.2, rows=499))
    assert not verdict.accepted
    assert verdict.reason == "499 labelled rows cannot decide: registry.comparison.min_rows is 500"
    assert judged(right(0.99, rows=500), right(0.2, rows=500)).accepted


def test_where_each_scored_rows_of_its_own_both_need_enough() -> None:
    many, few = (Scored(labels(rows), right(0.9, rows=rows), np.arange(rows) // 50) for rows in (500, 499))
    for pair in ((many, few), (few, many)):
        verdict = compare(*pair, metric=Metric("accuracy", accuracy), settings=SETTINGS)
        assert verdict.reason == "499 labelled rows cannot decide: registry.comparison.min_rows is 500"


def test_no_rows_at_all_cannot_decide() -> None:
    verdict = judged(np.empty(0), np.empty(0), min_rows=1)
    assert not verdict.accepted
    assert "0 labelled rows cannot decide" in verdict.reason


@pytest.mark.parametrize("broken", [lambda labels, scores: np.nan, lambda labels, scores: np.inf], ids=["nan", "inf"])
def test_a_metric_that_cannot_be_computed_is_a_refusal(broken: Measure) -> None:
    verdict = judged(right(0.9), right(0.7), measure=broken)
    assert not verdict.accepted
    assert verdict.reason == "accuracy of the 2,000 labelled rows is not a finite number"


def test_the_verdict_does_not_depend_on_chance_or_on_the_order_of_rows() -> None:
    ours, theirs, blocks = right(0.9), right(0.8), np.arange(ROWS) // 50
    assert judged(ours, theirs) == judged(ours, theirs)
    shuffled = np.random.default_rng(0).permutation(ROWS)
    both = (Scored(labels()[shuffled], scores[shuffled], blocks[shuffled]) for scores in (ours, theirs))
    again = compare(*both, metric=Metric("accuracy", accuracy), settings=SETTINGS)
    assert (again.accepted, again.low, again.high) == pytest.approx((True, *_interval(judged(ours, theirs))))


def test_the_interval_is_as_wide_as_theory_says() -> None:
    """Right or wrong on each row, independently: the difference of two shares has a known standard error."""
    verdict = judged(right(0.9, seed=3), right(0.8, seed=4), blocks=np.arange(ROWS))
    standard_error = np.sqrt((0.9 * 0.1 + 0.8 * 0.2) / ROWS)
    low, high = _interval(verdict)
    assert high - low == pytest.approx(2 * 1.96 * standard_error, rel=0.15)


def test_more_confidence_is_a_wider_interval() -> None:
    widths = []
    for confidence in (0.6, 0.9, 0.99):
        low, high = _interval(judged(right(0.9), right(0.8), confidence=confidence))
        widths.append(high - low)
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]


def test_rows_that_hang_together_count_as_one() -> None:
    """Twenty days, on each of which the challenger is right throughout or wrong throughout: twenty facts, not 2,000."""
    day = np.random.default_rng(6).permutation(ROWS) // 100
    ours = np.where(np.isin(day, [0, 1, 2, 3, 4, 5, 6, 7]), 1 - labels(), labels())
    theirs = right(0.5)
    by_row, by_day = judged(ours, theirs, blocks=np.arange(ROWS)), judged(ours, theirs, blocks=day)
    assert by_row.accepted
    assert not by_day.accepted
    assert by_day.high - by_day.low > 3 * (by_row.high - by_row.low)


def test_the_primary_metric_of_a_project_tells_good_scores_from_bad_ones() -> None:
    noise = np.random.default_rng(5).normal(0, 1, (2, ROWS))
    good, bad = 0.5 + (labels() - 0.5) * 0.4 + noise[0] * 0.05, 0.5 + noise[1] * 0.05
    model = Estimate()
    name, measure, greater = model.primary
    assert judged(good, bad, measure=measure, greater=greater).accepted
    assert not judged(bad, good, measure=measure, greater=greater).accepted
    assert model.metrics(labels(), good)[name] == measure(labels(), good)


def _interval(verdict: Verdict) -> tuple[float, float]:
    return verdict.low, verdict.high
