import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.inference.signed_rank import signed_rank_test
from analysis.results.model import Alternative, ZeroMethod

ZERO_METHODS: tuple[ZeroMethod, ...] = ("pratt", "wilcox", "zsplit")
ALTERNATIVES: tuple[Alternative, ...] = ("two-sided", "greater", "less")

# Hollander & Wolfe (1973), depression scores of nine patients before and after.
BEFORE = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
AFTER = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
DEPRESSION = [b - a for b, a in zip(BEFORE, AFTER, strict=True)]
# Darwin (1876), plant heights, eighths of an inch; crossed minus self-fertilised.
PLANTS = [6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75]


def brute_force(differences: Any, zero_method: str) -> dict[str, float]:
    """p over all 2^n sign patterns, W+ recomputed with scipy's mid-ranks for each."""
    d = np.asarray(differences, dtype=float)
    if zero_method == "wilcox":
        d = d[d != 0]
    ranks = stats.rankdata(np.abs(d))

    def w_plus(signed: Any) -> float:
        half_zeros = ranks[signed == 0].sum() / 2 if zero_method == "zsplit" else 0
        return float(ranks[signed > 0].sum() + half_zeros)

    observed = w_plus(d)
    all_w = np.array([w_plus(np.abs(d) * signs) for signs in itertools.product([-1, 1], repeat=len(d))])
    less, greater = (all_w <= observed).mean(), (all_w >= observed).mean()
    return {"w_plus": observed, "two-sided": min(1, 2 * min(less, greater)), "greater": greater, "less": less}


@pytest.mark.parametrize(
    ("differences", "zero_method", "alternative", "p_value"),
    [
        # Hollander & Wolfe (depression), Darwin (plants), brute force over all signs
        (DEPRESSION, "pratt", "two-sided", 0.0390625),
        (DEPRESSION, "pratt", "greater", 0.01953125),
        (DEPRESSION, "pratt", "less", 0.986328125),
        (PLANTS, "pratt", "two-sided", 0.041259765625),
        ([1, 1, 2, 3, 4], "pratt", "two-sided", 0.0625),
        ([0, 1, 2, 3, 4], "wilcox", "two-sided", 0.125),
        ([11, 4, 3, -2, 13, 2, 7, 4, 3, -3, 12], "pratt", "two-sided", 0.0126953125),
        # 4 signs are random, so 2 / 2^4: brute force and scipy.stats.PermutationMethod agree.
        ([0, 1, 2, 3, 4], "pratt", "two-sided", 0.125),
    ],
)
def test_published_values(
    differences: list[float], zero_method: ZeroMethod, alternative: Alternative, p_value: float
) -> None:
    """p-values against published ones, to the last bit."""
    assert signed_rank_test(differences, zero_method=zero_method, alternative=alternative).p_value == p_value


def test_rank_sums() -> None:
    """W+ and W- of data with ties against published values."""
    assert signed_rank_test(DEPRESSION).w_plus == 40
    plants = signed_rank_test(PLANTS)
    assert (plants.w_plus, plants.w_minus) == (96, 24)
    tied = signed_rank_test([11, 4, 3, -2, 13, 2, 7, 4, 3, -3, 12])
    # 4 4, 3 3 3, 2 2 share their absolute values.
    assert (tied.w_plus, tied.w_minus, tied.ties, tied.zeros, tied.n) == (60.5, 5.5, 7, 0, 11)


@pytest.mark.parametrize("zero_method", ZERO_METHODS)
@pytest.mark.parametrize(
    "differences",
    [
        [0, 0, 1, -1, 2, 3, 3],
        [0, -1, -1, -1, 2],
        [5],
        [0, 4],
        [2, 2, 2, -2, -2, 2, 0, 0, 0],
        [-1.5, 0.25, 3, 4],
    ],
)
def test_brute_force(differences: list[float], zero_method: ZeroMethod) -> None:
    """W+ and every p-value, with ties and zeros, against enumeration of all sign patterns."""
    expected = brute_force(differences, zero_method)
    for alternative in ALTERNATIVES:
        test = signed_rank_test(differences, zero_method=zero_method, alternative=alternative)
        assert test.w_plus == expected["w_plus"]
        assert test.p_value == expected[alternative]


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9), st.sampled_from(ZERO_METHODS))
@settings(deadline=None, max_examples=60)
def test_brute_force_on_any_small_data(differences: list[int], zero_method: ZeroMethod) -> None:
    """p-values of arbitrary tied data against enumeration of all sign patterns."""
    expected = brute_force(differences, zero_method)
    for alternative in ALTERNATIVES:
        test = signed_rank_test(differences, zero_method=zero_method, alternative=alternative)
        assert test.p_value == pytest.approx(expected[alternative], abs=1e-15)


@pytest.mark.parametrize("n", [1, 5, 12, 30, 49])
@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_scipy_without_ties(n: int, alternative: Alternative) -> None:
    """p-values without ties and zeros against scipy.stats.wilcoxon(method="exact")."""
    d = np.random.default_rng(n).normal(0.3, 1, size=n)
    expected = stats.wilcoxon(d, alternative=alternative, method="exact").pvalue
    assert signed_rank_test(d, alternative=alternative).p_value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("zero_method", ZERO_METHODS)
def test_scipy_permutations_with_ties(zero_method: ZeroMethod) -> None:
    """p-values with ties and zeros against scipy's full permutation test, which `auto` takes for n <= 13."""
    d = np.array([0.0, 0, 1, 1, -1, 2, 3, -3])
    for alternative in ALTERNATIVES:
        expected = stats.wilcoxon(d, zero_method=zero_method, alternative=alternative).pvalue
        ours = signed_rank_test(d, zero_method=zero_method, alternative=alternative)
        assert ours.p_value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n", "smallest"), [(3, 0.25), (5, 0.0625), (6, 0.03125), (9, 0.00390625)])
def test_smallest_attainable_p(n: int, smallest: float) -> None:
    """The smallest p of n differences against 2 / 2^n, half of it one-sided; it is p when all agree."""
    test = signed_rank_test(range(1, n + 1))
    assert test.smallest_p == test.p_value == smallest
    assert signed_rank_test(range(1, n + 1), alternative="greater").smallest_p == smallest / 2
    # A zero carries no sign, so it does not help.
    assert signed_rank_test([0, *range(1, n + 1)]).smallest_p == smallest


@pytest.mark.parametrize("zero_method", ZERO_METHODS)
def test_all_zeros(zero_method: ZeroMethod) -> None:
    """Differences that are all zero against p = 1: the one possible outcome."""
    test = signed_rank_test([0.0, 0.0, -0.0], zero_method=zero_method)
    assert (test.p_value, test.smallest_p, test.zeros, test.ties, test.n) == (1, 1, 3, 0, 3)


def test_rounding_makes_ties() -> None:
    """Differences equal up to binary noise against ties and zeros."""
    noisy = [0.1 + 0.2 - 0.3, 0.3 - 0.1, 0.2, -0.2]
    test = signed_rank_test(noisy)
    assert (test.zeros, test.ties) == (1, 3)
    assert signed_rank_test(noisy, decimals=17).zeros == 0


@pytest.mark.parametrize("bad", [[], [1, float("nan")], [float("inf")], [[1, 2], [3, 4]]])
def test_unusable_differences(bad: Any) -> None:
    """No differences, values that are not finite and two dimensions against ValueError."""
    with pytest.raises(ValueError, match=r"differences? "):
        signed_rank_test(bad)


def test_unknown_choices_are_named() -> None:
    """Unknown options against errors that list the choices."""
    with pytest.raises(ValueError, match="pratt, wilcox, zsplit, got 'x'"):
        signed_rank_test([1], zero_method="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="two-sided, greater, less, got 'x'"):
        signed_rank_test([1], alternative="x")  # type: ignore[arg-type]


DIFFERENCES = st.lists(st.integers(-20, 20).map(lambda i: i / 4), min_size=1, max_size=25)


@given(DIFFERENCES, st.sampled_from(ZERO_METHODS), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=100)
def test_symmetries(d: list[float], zero_method: ZeroMethod, random: Any) -> None:
    """Swapped arms against swapped sums and the same two-sided p; shuffled units against the same test."""
    test = signed_rank_test(d, zero_method=zero_method)
    swapped = signed_rank_test([-x for x in d], zero_method=zero_method)
    assert (swapped.w_plus, swapped.w_minus, swapped.p_value) == (test.w_minus, test.w_plus, test.p_value)
    greater = signed_rank_test(d, zero_method=zero_method, alternative="greater")
    assert (
        signed_rank_test([-x for x in d], zero_method=zero_method, alternative="less").p_value
        == greater.p_value
    )
    random.shuffle(d)
    assert signed_rank_test(d, zero_method=zero_method) == test
    assert test.smallest_p <= test.p_value <= 1
