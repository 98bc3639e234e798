import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.inference.intervals import clopper_pearson, hodges_lehmann, rank_biserial, sign_test
from analysis.inference.signed_rank import signed_rank_test
from analysis.results.table import mean, sd

# See test_signed_rank.py for where these come from.
DEPRESSION = [0.952, -0.147, 1.022, 0.43, 0.62, 0.59, 0.49, -0.08, 0.01]
PLANTS = [6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75]


def test_depression() -> None:
    """Against Hollander & Wolfe, Nonparametric Statistical Methods, chapter 3: the depression data."""
    interval = hodges_lehmann(DEPRESSION)
    assert interval.estimate == pytest.approx(0.46)
    assert (interval.low, interval.high) == (pytest.approx(0.010), pytest.approx(0.786))
    assert interval.achieved == pytest.approx(0.9609, abs=5e-5)


def test_plants() -> None:
    """Estimate and interval of Darwin's plant heights, worked out separately."""
    interval = hodges_lehmann(PLANTS)
    assert (interval.estimate, interval.low, interval.high) == (25, 4, 41.5)


@pytest.mark.parametrize(("n", "q"), [(6, 1), (9, 6), (10, 9), (15, 26), (20, 53), (25, 90), (50, 435)])
def test_order_statistics(n: int, q: int) -> None:
    """Bounds of the interval of powers of 2 against the tabled quantiles of the signed-rank null."""
    d = [2.0**k for k in range(n)]
    walsh = sorted((a + b) / 2 for a, b in itertools.combinations_with_replacement(d, 2))
    interval = hodges_lehmann(d)
    assert (interval.low, interval.high) == (walsh[q - 1], walsh[-q])
    assert interval.achieved is not None
    assert interval.achieved >= 0.95


@pytest.mark.parametrize(("n", "widest"), [(1, "0%"), (2, "50%"), (3, "75%"), (4, "87.5%"), (5, "93.75%")])
def test_too_few_for_the_level(n: int, widest: str) -> None:
    """n < 6 against no 95% interval and the level that n reaches, 1 - 2/2^n."""
    interval = hodges_lehmann(range(n))
    assert interval.estimate == (n - 1) / 2
    assert (interval.low, interval.high, interval.achieved) == (None, None, None)
    assert interval.reason == f"with n = {n} no interval reaches 95%: the widest reaches {widest}"


def test_the_widest_interval_can_be_had() -> None:
    """Five differences at 93.75% and at 90% against their range."""
    for confidence in (0.9375, 0.9):
        interval = hodges_lehmann([3, 1, 2, 5, 4], confidence)
        assert (interval.low, interval.high, interval.achieved) == (1, 5, 0.9375)


@given(st.lists(st.integers(-(2**20), 2**20), min_size=6, max_size=20, unique=True), st.integers(-999, 999))
@settings(deadline=None, max_examples=60)
def test_interval_inverts_the_test(d: list[int], shift: int) -> None:
    """The interval against the signed-rank test of shifted data, and against a shift and a change of sign."""
    interval = hodges_lehmann(d)
    assert interval.low is not None
    assert interval.high is not None
    # Just outside the interval the two-sided test rejects; ties of shifted values only occur on a half grid.
    for outside in (interval.low - 0.125, interval.high + 0.125):
        assert signed_rank_test([x - outside for x in d]).p_value <= 0.05
    assert signed_rank_test([x - interval.estimate for x in d]).p_value > 0.05
    moved = hodges_lehmann([x + shift for x in d])
    assert (moved.low, moved.high) == (interval.low + shift, interval.high + shift)
    mirrored = hodges_lehmann([-x for x in d])
    assert (mirrored.estimate, mirrored.low, mirrored.high) == (
        -interval.estimate,
        -interval.high,
        -interval.low,
    )


def test_coverage() -> None:
    """Share of 2,000 normal samples of 8 whose interval covers 0 against the achieved level, within 3 SE."""
    rng = np.random.default_rng(0)
    intervals = [hodges_lehmann(sample) for sample in rng.normal(size=(2000, 8))]
    covered = np.mean([i.low is not None and i.high is not None and i.low <= 0 <= i.high for i in intervals])
    # P(T <= 3) = 5/256 for n = 8 (sums 0, 1, 2, 3, 1 + 2), P(T <= 4) = 7/256 > .025.
    achieved = 1 - 2 * 5 / 256
    assert intervals[0].achieved == achieved
    assert abs(covered - achieved) < 3 * (achieved * (1 - achieved) / 2000) ** 0.5


@pytest.mark.parametrize(("k", "n"), [(0, 5), (5, 5), (7, 9), (1, 30), (81, 100)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_clopper_pearson(k: int, n: int, confidence: float) -> None:
    """The interval against scipy.stats.binomtest(...).proportion_ci(method="exact")."""
    expected = stats.binomtest(k, n).proportion_ci(confidence, method="exact")
    interval = clopper_pearson(k, n, confidence)
    assert interval.estimate == k / n
    assert (interval.low, interval.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


@pytest.mark.parametrize(("won", "lost"), [(7, 2), (0, 6), (3, 3), (5, 0), (40, 61)])
@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_sign_test(won: int, lost: int, alternative: str) -> None:
    """p-values against scipy.stats.binomtest(won, won + lost)."""
    expected = stats.binomtest(won, won + lost, alternative=alternative).pvalue
    assert sign_test(won, lost, alternative) == pytest.approx(expected)  # type: ignore[arg-type]


def test_sign_test_of_nothing() -> None:
    """No wins and no losses against p = 1, and 7 of 9 against 2 (36 + 9 + 1) / 512."""
    assert sign_test(0, 0) == 1
    assert sign_test(7, 2) == pytest.approx(0.18, abs=0.002)


def test_rank_biserial() -> None:
    """The correlation by hand, (40 - 5) / 45, and None where there are no ranks."""
    test = signed_rank_test(DEPRESSION)
    assert rank_biserial(test.w_plus, test.w_minus) == pytest.approx(0.7778, abs=5e-5)
    assert rank_biserial(0, 3) == -1
    assert rank_biserial(0, 0) is None


def test_mean_and_sd() -> None:
    """Mean and SD against values by hand; undefined is None, never 0."""
    assert (mean([1, 2, 6]), sd([1, 2, 6])) == (3, pytest.approx(7**0.5))
    assert (mean([4]), sd([4])) == (4, None)
    assert (mean([]), sd([])) == (None, None)
    for size in (2, 5, 1000):
        values = (1e6 + np.random.default_rng(size).normal(size=size)).tolist()
        assert sd(values) == pytest.approx(float(np.std(values, ddof=1)), rel=1e-9)


@pytest.mark.parametrize(
    "call",
    [
        lambda: hodges_lehmann([], 0.95),
        lambda: hodges_lehmann([float("nan")]),
        lambda: hodges_lehmann([1.0], 1.0),
        lambda: clopper_pearson(1, 2, 0.0),
        lambda: clopper_pearson(3, 2),
        lambda: clopper_pearson(0, 0),
        lambda: sign_test(-1, 2),
        lambda: sign_test(1, 2, "x"),
    ],
)
def test_unusable_arguments(call) -> None:  # type: ignore[no-untyped-def]
    """Arguments out of range against ValueError."""
    with pytest.raises(ValueError, match=r"need|finite|confidence|counts|one of"):
        call()
