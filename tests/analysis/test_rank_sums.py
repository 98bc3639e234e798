import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.inference import signed_rank as rank_sums
from analysis.inference.signed_rank import (
    MOST_COUNTED,
    MOST_EXACT,
    at_most,
    count_patterns,
    critical_sum,
    null_below,
    signed_rank_test,
)
from analysis.results.model import Alternative


def test_null_distribution_adds_up() -> None:
    """The number of sign patterns against 2^n, beyond the range of int64, and against a count by hand."""
    assert sum(count_patterns(range(1, 101))) == 2**100
    # Sums of subsets of {1, 2, 3}: 0 1 2 3 3 4 5 6.
    assert list(count_patterns([1, 2, 3])) == [1, 1, 1, 2, 1, 1, 1]


def test_distribution_of_many_ranks_is_that_of_integers() -> None:
    """Above the sum up to which it is counted, the distribution in floating point against exact fractions."""
    ranks = [int(r) for r in np.random.default_rng(3).integers(1, 5000, 60)]
    below, unit = null_below(ranks)
    assert (len(below), unit) == (sum(ranks) + 1, 1)
    assert sum(ranks) > MOST_COUNTED
    exact = np.array([count / 2**60 for count in itertools.accumulate(count_patterns(ranks))])
    np.testing.assert_allclose(below, exact, rtol=1e-12)
    assert (np.diff(below) >= 0).all()


@pytest.fixture(scope="module")
def enumerated() -> np.ndarray:
    """P(T <= k) of the largest number of ranks that is enumerated."""
    below, _ = null_below(range(1, MOST_EXACT + 1))
    return below


def test_approximation_against_enumeration(monkeypatch: pytest.MonkeyPatch, enumerated: np.ndarray) -> None:
    """The saddlepoint approximation at 2,000 ranks against the enumerated distribution: the errors it states."""
    ranks = np.arange(1, MOST_EXACT + 1)
    monkeypatch.setattr(rank_sums, "MOST_EXACT", 0)
    deviation = np.sqrt((ranks**2).sum() / 4)
    for z in np.linspace(-5, 5, 41):
        k = int(ranks.sum() / 2 + z * deviation)
        assert at_most(ranks, k) == pytest.approx(enumerated[k], rel=1e-6), z
    for z, within in ((-8, 1e-5), (-15, 1e-5), (-25, 1e-4)):
        k = int(ranks.sum() / 2 + z * deviation)
        assert at_most(ranks, k) == pytest.approx(enumerated[k], rel=within, abs=0), z
    assert at_most(ranks, int(ranks.sum())) == 1
    assert 0 <= at_most(ranks, 0) < 1e-290


@pytest.mark.parametrize(("groups", "within"), [(2, 0.05), (5, 0.02), (20, 0.005), (1000, 1e-5)])
def test_approximation_of_tied_ranks(monkeypatch: pytest.MonkeyPatch, groups: int, within: float) -> None:
    """The same where 2,000 values are tied in equal groups, the worst case: the sums lie in clusters."""
    _, of, counts = np.unique(np.arange(MOST_EXACT) % groups, return_inverse=True, return_counts=True)
    ranks = (2 * (np.cumsum(counts) - counts) + counts + 1)[of]
    below, unit = null_below(ranks.tolist())
    monkeypatch.setattr(rank_sums, "MOST_EXACT", 0)
    deviation = np.sqrt((ranks**2).sum() / 4)
    errors = []
    for z in np.linspace(-5, 0, 41):
        k = int(ranks.sum() / 2 + z * deviation)
        errors.append(abs(at_most(ranks, k) / below[k // unit] - 1))
    assert max(errors) < within


@pytest.mark.parametrize("tail", [0.025, 0.05, 0.001, 1e-7, 0.4])
def test_critical_sum_of_many_ranks(
    monkeypatch: pytest.MonkeyPatch, enumerated: np.ndarray, tail: float
) -> None:
    """The largest q with P(T <= q - 1) <= tail by approximation against enumeration: one of 2 million off at most."""
    exact, level = critical_sum(MOST_EXACT, tail)
    assert enumerated[exact - 1] == level <= tail < enumerated[exact]
    monkeypatch.setattr(rank_sums, "MOST_EXACT", 0)
    approximate, near = critical_sum(MOST_EXACT, tail)
    assert abs(approximate - exact) <= 1
    assert near <= tail
    assert near == pytest.approx(level, rel=1e-3)


def test_no_sum_is_rare_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tail below that of the smallest sum against q = 0, enumerated and approximated."""
    assert critical_sum(4, 0.05) == (0, 0.0)
    monkeypatch.setattr(rank_sums, "MOST_EXACT", 0)
    assert critical_sum(4, 0.05) == (0, 0.0)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_many_differences_against_scipy(alternative: Alternative) -> None:
    """p of 5,000 differences with zeros and ties against scipy's normal approximation, within what that one can do."""
    d = np.round(np.random.default_rng(1).normal(0.03, 1, 5000), 2)
    found = signed_rank_test(d, alternative=alternative)
    normal = stats.wilcoxon(  # type: ignore[call-overload]
        d, zero_method="pratt", alternative=alternative, method="asymptotic", correction=True
    )
    assert found.p_value == pytest.approx(normal.pvalue, rel=2e-3)
    assert found.zeros > 0
    assert found.ties > 1000
    assert found.method.startswith("saddlepoint")
    assert signed_rank_test(d[d != 0][:MOST_EXACT]).method.startswith("exact")


@given(st.integers(2001, 4000), st.floats(-1.5, 1.5))
@settings(deadline=None, max_examples=30)
def test_approximation_is_symmetric_and_grows(n: int, z: float) -> None:
    """P(T <= k) + P(T >= k + 1) against 1, and the next sum's probability against this one's."""
    ranks = np.arange(1, n + 1)
    total = int(ranks.sum())
    k = int(total / 2 + z * np.sqrt((ranks**2).sum() / 4))
    assert at_most(ranks, k) + at_most(ranks, total - k - 1) == pytest.approx(1, abs=1e-12)
    assert at_most(ranks, k) <= at_most(ranks, k + 1)
