"""Drift metrics: known values, agreement with SciPy, and what each metric does and does not see."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from mlplatform.monitoring import drift


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def numbers(values: Any) -> pl.Series:
    return pl.Series("x", values, dtype=pl.Float64)


def test_psi_of_two_bins_is_what_pen_and_paper_give() -> None:
    # With half a row added: shares 0.5 and 0.5 against 0.25 and 0.75; 0.25 ln 0.5 falls, 0.25 ln 1.5 rises.
    expected = -0.25 * np.log(0.5) + 0.25 * np.log(1.5)
    assert drift.psi(np.array([49.5, 49.5]), np.array([24.5, 74.5])) == pytest.approx(expected)


def test_psi_ignores_a_bin_that_both_sides_leave_empty() -> None:
    assert drift.psi(np.array([5.0, 5.0, 0.0]), np.array([1.0, 9.0, 0.0])) == drift.psi(
        np.array([5.0, 5.0]), np.array([1.0, 9.0])
    )


@pytest.mark.parametrize("shift", [0.0, 0.3], ids=["same", "shifted"])
@pytest.mark.parametrize("digits", [0, 8], ids=["tied", "continuous"])
def test_ks_and_wasserstein_agree_with_scipy(rng: np.random.Generator, shift: float, digits: int) -> None:
    old = np.sort(rng.normal(0, 2, 3_000).round(digits))
    new = np.sort(rng.normal(shift, 2.5, 1_700).round(digits))
    ks, wasserstein = drift.ks_and_wasserstein(old, new)
    assert ks == pytest.approx(stats.ks_2samp(old, new).statistic, abs=1e-12)
    assert wasserstein == pytest.approx(stats.wasserstein_distance(old, new) / old.std(), rel=1e-9)


def test_categorical_distances_agree_with_scipy() -> None:
    old, new = np.array([500.0, 300.0, 200.0]), np.array([90.0, 70.0, 40.0])
    expected = stats.chi2_contingency(np.stack([old, new]), correction=False)
    assert drift.chi_squared(old, new) == pytest.approx((expected.statistic, expected.pvalue))
    assert drift.jensen_shannon(old, new) == pytest.approx(jensenshannon(old, new, base=2))


def test_rare_categories_are_pooled_before_the_chi_squared_test() -> None:
    old, new = np.array([500.0, 480.0, 1.0, 0.0, 2.0]), np.array([510.0, 490.0, 0.0, 1.0, 1.0])
    pooled = drift.chi_squared(np.array([500.0, 480.0, 3.0]), np.array([510.0, 490.0, 2.0]))
    assert drift.chi_squared(old, new) == pytest.approx(pooled)


@pytest.mark.parametrize("others", [[], [2.0, 3.0]], ids=["constant", "weekday"])
def test_values_below_all_of_the_reference_are_seen(others: list[float]) -> None:
    old, new = numbers([1.0, *others] * 100), numbers([-99.0, *others] * 100)
    assert drift.compare(old, new)["psi"] > 1


def test_a_small_shift_is_seen_by_ks_where_psi_misses_it(rng: np.random.Generator) -> None:
    found = drift.compare(numbers(rng.normal(0, 1, 50_000)), numbers(rng.normal(0.2, 1, 50_000)))
    assert found["psi"] < 0.1
    assert found["ks"] > 0.07
    assert found["wasserstein"] == pytest.approx(0.2, abs=0.02)


def test_noise_is_not_drift(rng: np.random.Generator) -> None:
    found = drift.compare(numbers(rng.normal(size=50_000)), numbers(rng.normal(size=5_000)))
    assert found["psi"] < 0.01
    assert found["ks"] < 0.03
    words = rng.choice(["red", "green", "blue"], 12_000)
    found = drift.compare(pl.Series(words[:10_000]), pl.Series(words[10_000:]))
    assert found["jensen_shannon"] < 0.05
    assert found["chi_squared_p"] > 0.001


def test_values_that_go_missing_are_drift(rng: np.random.Generator) -> None:
    whole = numbers(rng.normal(size=1_000))
    holed = numbers([*rng.normal(size=600), *[None] * 200, *[float("nan")] * 100, *[float("inf")] * 100])
    assert drift.compare(whole, numbers(rng.normal(size=1_000)))["psi"] < 0.05
    found = drift.compare(whole, holed)
    assert found["psi"] > 1
    assert found["ks"] < 0.1  # the values that are there have not moved
    lost = drift.compare(pl.Series(["a", "b"] * 50), pl.Series(["a", None] * 50))
    assert lost["jensen_shannon"] == pytest.approx(np.sqrt(0.5))


def test_a_column_without_any_value_has_no_ks_but_a_psi() -> None:
    assert drift.compare(numbers([1.0, 2.0]), numbers([None, None])).keys() == {"psi"}
    assert drift.compare(numbers([1.0, 2.0]), pl.Series("x", [None, None])).keys() == {"psi"}
    assert drift.compare(numbers([1.0, 2.0]), numbers([])) == {}


def test_a_constant_that_changes_is_infinitely_far() -> None:
    assert drift.compare(numbers([0.1] * 9), numbers([0.1] * 5))["wasserstein"] == 0
    changed = drift.compare(numbers([0.1] * 9), numbers([0.2] * 5))
    assert (changed["ks"], changed["wasserstein"]) == (1, np.inf)


def test_categories_are_pooled_where_fewer_than_five_are_expected() -> None:
    for rows, statistic in ((10.0, 20), (9.0, 0)):  # half of them are expected on each side
        ours, theirs = np.array([rows, 0.0, 100 - rows]), np.array([0.0, rows, 100 - rows])
        assert drift.chi_squared(ours, theirs)[0] == pytest.approx(statistic)


def test_numbers_are_not_compared_with_text() -> None:
    with pytest.raises(TypeError, match="x: String cannot be compared with a reference of Float64"):
        drift.compare(numbers([1.0]), pl.Series("x", ["1.0"]))


def test_the_order_of_rows_does_not_matter(rng: np.random.Generator) -> None:
    words = pl.Series(rng.choice([*"abcdefgh"], 5_000))
    reference = pl.Series(rng.choice([*"abcdefghi"], 5_000))
    assert drift.compare(reference, words) == drift.compare(reference.reverse(), words.sort())
