"""What must hold of the headline numbers whatever the data are, and brute force over every sign pattern."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.inference.intervals import clopper_pearson, hodges_lehmann, sign_test
from analysis.inference.signed_rank import signed_rank_test
from analysis.results.model import ZeroMethod
from tests.analysis.analysis_examples import DECLARED, LC, compare, sweep

DIFFERENCES = st.lists(st.integers(-64, 64).map(lambda i: i / 8), min_size=1, max_size=15)


@given(st.lists(st.integers(-5, 5), min_size=10, max_size=12), st.sampled_from(["pratt", "wilcox", "zsplit"]))
@settings(deadline=None, max_examples=30)
def test_brute_force_of_twelve(d: list[int], zero_method: ZeroMethod) -> None:
    """Two-sided p of up to 12 tied differences against all 2^n sign patterns of scipy's mid-ranks."""
    values = np.array(d)
    used = values[values != 0] if zero_method == "wilcox" else values
    ranks = stats.rankdata(np.abs(used))[used != 0]
    patterns = np.array(list(itertools.product([0, 1], repeat=len(ranks))))
    null, observed = patterns @ ranks, ranks[used[used != 0] > 0].sum()
    expected = min(1, 2 * min((null <= observed).mean(), (null >= observed).mean()))
    assert signed_rank_test(d, zero_method=zero_method).p_value == pytest.approx(expected, abs=1e-15)


@given(DIFFERENCES, st.sampled_from([0.25, 2.0, 64.0]), st.integers(-9, 9), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=80)
def test_hodges_lehmann_is_equivariant(d: list[float], scale: float, shift: int, random: Any) -> None:
    """Estimate and interval in another unit, shifted, swapped and shuffled against the same transformed."""
    ours = hodges_lehmann(d)

    def bounds(values: list[float]) -> list[float | None]:
        interval = hodges_lehmann(values)
        return [interval.estimate, interval.low, interval.high]

    def moved(factor: float, by: float) -> list[float | None]:
        return [None if x is None else factor * x + by for x in (ours.estimate, ours.low, ours.high)]

    # Eighths and powers of 2: every step is exact.
    assert bounds([scale * x for x in d]) == moved(scale, 0)
    assert bounds([x + shift for x in d]) == moved(1, shift)
    estimate, low, high = bounds([-x for x in d])
    assert [estimate, high, low] == moved(-1, 0)
    random.shuffle(d)
    assert hodges_lehmann(d) == ours


@pytest.mark.parametrize("n", [6, 7, 9, 10])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_achieved_level_by_brute_force(n: int, confidence: float) -> None:
    """The achieved level against the share of all 2^n sign patterns whose interval covers 0."""
    magnitudes = 2.0 ** np.arange(n) + 0.1 * np.arange(n)
    covered = 0
    for signs in itertools.product([-1, 1], repeat=n):
        interval = hodges_lehmann(magnitudes * signs, confidence)
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= 0 <= interval.high
    assert covered / 2**n == hodges_lehmann(magnitudes, confidence).achieved


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(deadline=None, max_examples=60)
def test_clopper_pearson_inverts_the_binomial_test(counts: tuple[int, int]) -> None:
    """Both bounds against one-sided binomial tests of 2.5%, and the covered half against the sign test."""
    k, n = counts
    interval = clopper_pearson(k, n)
    assert interval.low is not None
    assert interval.high is not None
    if k:
        assert stats.binom.sf(k - 1, n, interval.low) == pytest.approx(0.025)
    if k < n:
        assert stats.binom.cdf(k, n, interval.high) == pytest.approx(0.025)
    assert (sign_test(k, n - k) <= 0.05) == (not interval.low <= 0.5 <= interval.high)


@given(st.lists(st.lists(st.integers(-8, 8), min_size=2, max_size=2), min_size=1, max_size=7), st.randoms())
@settings(deadline=None, max_examples=40)
def test_order_of_runs_changes_nothing(differences: Any, random: Any) -> None:
    """The comparison of shuffled runs against that of the table in order; shuffled settings against the same test."""
    example = sweep(differences)
    (ours,) = compare(**example, declared=DECLARED, metrics=[LC])
    random.shuffle(example["runs"])
    assert compare(**example, declared=DECLARED, metrics=[LC]) == [ours]
    random.shuffle(example["settings"])
    (shuffled,) = compare(**example, declared=DECLARED, metrics=[LC])
    assert (shuffled.test, shuffled.estimate, shuffled.won) == (ours.test, ours.estimate, ours.won)
