import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.inference.multiplicity import (
    Adjusted,
    benjamini_hochberg,
    benjamini_yekutieli,
    holm,
    partial_conjunction,
)

P_VALUES = st.lists(st.integers(0, 200).map(lambda i: i / 200), min_size=1, max_size=12)


def test_published_values() -> None:
    """Holm and Benjamini-Hochberg by hand and, with a tie, against statsmodels 0.15.0 multipletests."""
    assert holm([0.01, 0.04, 0.03, 0.005]).adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.005]).adjusted == pytest.approx([0.02, 0.04, 0.04, 0.02])
    p = [0.01, 0.04, 0.03, 0.005, 0.2, 0.04]
    assert holm(p).adjusted == pytest.approx([0.05, 0.12, 0.12, 0.03, 0.2, 0.12])
    assert benjamini_hochberg(p).adjusted == pytest.approx([0.03, 0.048, 0.048, 0.03, 0.2, 0.048])
    assert benjamini_yekutieli(p).adjusted == pytest.approx([0.0735, 0.1176, 0.1176, 0.0735, 0.49, 0.1176])


@given(P_VALUES)
@settings(deadline=None, max_examples=60)
def test_scipy(p: list[float]) -> None:
    """Both false discovery rates against scipy.stats.false_discovery_control."""
    assert benjamini_hochberg(p).adjusted == pytest.approx(stats.false_discovery_control(p, method="bh"))
    assert benjamini_yekutieli(p).adjusted == pytest.approx(stats.false_discovery_control(p, method="by"))


@given(st.lists(st.integers(0, 60).map(lambda i: i / 200), min_size=1, max_size=7))
@settings(deadline=None, max_examples=60)
def test_holm_is_the_closed_bonferroni_test(p: list[float]) -> None:
    """Holm's adjusted p against the closure: the largest Bonferroni p of all sets of hypotheses that hold it."""
    for i, adjusted in enumerate(holm(p).adjusted):
        sets = [
            subset
            for size in range(1, len(p) + 1)
            for subset in itertools.combinations(range(len(p)), size)
            if i in subset
        ]
        closed = max(min(1.0, len(subset) * min(p[j] for j in subset)) for subset in sets)
        assert adjusted == pytest.approx(closed)


@given(P_VALUES, st.sampled_from([0.05, 0.1]))
@settings(deadline=None, max_examples=60)
def test_partial_conjunction(p: list[float], alpha: float) -> None:
    """The count against (K - u + 1) p_(u) <= alpha stepped upward by hand, and against Holm's rejections."""
    at_least = 0
    for u, value in enumerate(sorted(p), start=1):
        if (len(p) - u + 1) * value > alpha:
            break
        at_least = u
    result = partial_conjunction(p, alpha)
    assert result.at_least == at_least
    assert result.at_least == sum(a is not None and a <= alpha for a in holm(p).adjusted)
    assert result.p_values == sorted(result.p_values)


def test_counted_upward() -> None:
    """p-values of which only the second would pass against a count of 0, not 2."""
    # 2 x .04 = .08 > .05 stops at u = 1, though 1 x .045 <= .05.
    assert partial_conjunction([0.04, 0.045]).at_least == 0
    assert partial_conjunction([0.001, 0.002, 0.03, 0.5]).at_least == 2  # 2 x .03 = .06
    assert partial_conjunction([0.001, 0.002, 0.02, 0.05]).at_least == 4


def test_error_rates() -> None:
    """Any false rejection by Holm and by the partial conjunction under the null, against alpha, within 4 SE."""
    p_values = np.random.default_rng(0).uniform(size=(2000, 9))
    wrong = np.mean([min(p or 0.0 for p in holm(row).adjusted) <= 0.05 for row in p_values.tolist()])
    counted = np.mean([partial_conjunction(row).at_least > 0 for row in p_values.tolist()])
    assert wrong == counted
    assert abs(wrong - (1 - (1 - 0.05 / 9) ** 9)) < 4 * (0.05 * 0.95 / 2000) ** 0.5


@given(P_VALUES, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_symmetries(p: list[float], random: np.random.Generator) -> None:
    """Shuffled p-values against shuffled adjusted ones, never below p; Holm at least Benjamini-Hochberg."""
    order = list(range(len(p)))
    random.shuffle(order)  # type: ignore[arg-type]
    for adjust in (holm, benjamini_hochberg, benjamini_yekutieli):
        result = adjust(p)
        assert adjust([p[i] for i in order]).adjusted == [result.adjusted[i] for i in order]
        assert all(
            a is not None and b <= a + 1e-12 and a <= 1 for a, b in zip(result.adjusted, p, strict=True)
        )
        assert Adjusted.model_validate_json(result.model_dump_json()) == result
    pairs = zip(holm(p).adjusted, benjamini_hochberg(p).adjusted, strict=True)
    assert all(a is not None and b is not None and a >= b - 1e-12 for a, b in pairs)


def test_tests_that_could_not_be_made() -> None:
    """None among the p-values against None in its place and a family that still counts it."""
    result = holm([0.01, None, 0.02])
    assert result.adjusted == [pytest.approx(0.03), None, pytest.approx(0.04)]
    assert result.family == 3
    assert partial_conjunction([0.01, None]).at_least == 1
    assert (holm([]).adjusted, partial_conjunction([]).at_least) == ([], 0)


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_unusable(bad: float) -> None:
    """p-values and levels out of range against ValueError with the place."""
    for adjust in (holm, benjamini_hochberg, benjamini_yekutieli, partial_conjunction):
        with pytest.raises(ValueError, match=r"between 0 and 1, got .* at position 1"):
            adjust([0.5, bad])
    with pytest.raises(ValueError, match="alpha"):
        partial_conjunction([0.5], bad)
