import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.inference.multiplicity import (
    Adjusted,
    benjamini_hochberg,
    holm,
)

P_VALUES = st.lists(st.integers(0, 200).map(lambda i: i / 200), min_size=1, max_size=12)


def test_published_values() -> None:
    """Holm and Benjamini-Hochberg by hand and, with a tie, against statsmodels 0.15.0 multipletests."""
    assert holm([0.01, 0.04, 0.03, 0.005]).adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.005]).adjusted == pytest.approx([0.02, 0.04, 0.04, 0.02])
    p = [0.01, 0.04, 0.03, 0.005, 0.2, 0.04]
    assert holm(p).adjusted == pytest.approx([0.05, 0.12, 0.12, 0.03, 0.2, 0.12])
    assert benjamini_hochberg(p).adjusted == pytest.approx([0.03, 0.048, 0.048, 0.03, 0.2, 0.048])


@given(P_VALUES)
@settings(deadline=None, max_examples=60)
def test_scipy(p: list[float]) -> None:
    """Benjamini-Hochberg against scipy.stats.false_discovery_control."""
    assert benjamini_hochberg(p).adjusted == pytest.approx(stats.false_discovery_control(p, method="bh"))


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


def test_error_rates() -> None:
    """Any false rejection by Holm under the null, against alpha, within 4 SE."""
    p_values = np.random.default_rng(0).uniform(size=(2000, 9))
    wrong = np.mean([min(p or 0.0 for p in holm(row).adjusted) <= 0.05 for row in p_values.tolist()])
    assert abs(wrong - (1 - (1 - 0.05 / 9) ** 9)) < 4 * (0.05 * 0.95 / 2000) ** 0.5


@given(P_VALUES, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_symmetries(p: list[float], random: np.random.Generator) -> None:
    """Shuffled p-values against shuffled adjusted ones, never below p; Holm at least Benjamini-Hochberg."""
    order = list(range(len(p)))
    random.shuffle(order)  # type: ignore[arg-type]
    for adjust in (holm, benjamini_hochberg):
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
    assert holm([]).adjusted == []


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_unusable(bad: float) -> None:
    """p-values and levels out of range against ValueError with the place."""
    for adjust in (holm, benjamini_hochberg):
        with pytest.raises(ValueError, match=r"between 0 and 1, got .* at position 1"):
            adjust([0.5, bad])
