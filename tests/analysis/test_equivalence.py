import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.inference.crossed import crossed_test
from analysis.inference.equivalence import Equivalence, equivalence_test, within_margin
from analysis.inference.intervals import hodges_lehmann
from analysis.inference.signed_rank import signed_rank_test


@given(st.lists(st.integers(-(2**12), 2**12), min_size=5, max_size=14, unique=True), st.integers(1, 2**12))
@settings(deadline=None, max_examples=80)
def test_interval_is_two_one_sided_tests(d: list[int], margin: int) -> None:
    """The decision by the 90% interval against both one-sided signed-rank tests of data without ties."""
    values = [x + x * x / 2**26 for x in d]  # no two Walsh averages equal, none on the margin
    result = equivalence_test(values, margin + 0.3)
    above = signed_rank_test([x + margin + 0.3 for x in values], alternative="greater").p_value
    below = signed_rank_test([x - margin - 0.3 for x in values], alternative="less").p_value
    assert (result.p_above, result.p_below) == (above, below)
    assert result.equivalent == (max(above, below) <= 0.05)
    assert result.interval == hodges_lehmann(values, 0.9)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.sampled_from([0.5, 1.0, 1.5, 2.0]))
@settings(deadline=None, max_examples=80)
def test_ties(d: list[int], margin: float) -> None:
    """p and the interval against one another on tied data and on the margin; swapped arms against swapped tests."""
    result = equivalence_test(d, margin)
    assert result.p_value is not None
    if result.equivalent is None:
        assert len(d) < 5  # .5^5 = .03125
        assert result.p_value > 0.05
        assert result.reason is not None
    else:
        assert result.equivalent == (result.p_value <= 0.05)
    swapped = equivalence_test([-x for x in d], margin)
    assert (swapped.p_above, swapped.p_below, swapped.equivalent) == (
        result.p_below,
        result.p_above,
        result.equivalent,
    )
    assert Equivalence.model_validate_json(result.model_dump_json()) == result


def test_by_hand() -> None:
    """Five settings against 2^-5 on either side, the strictness of the margin, and too few settings."""
    d = [0.1, -0.2, 0.3, 0.4, -0.5]
    result = equivalence_test(d, 0.6)
    assert (result.p_above, result.p_below, result.equivalent) == (1 / 32, 1 / 32, True)
    assert equivalence_test(d, 0.5).equivalent is False  # -.5 is on the margin
    assert equivalence_test(d[:4], 10).equivalent is None
    assert (
        equivalence_test(d[:4], 10).reason
        == "equivalence cannot be shown with 4 settings: the smallest p is 0.0625"
    )


def test_level_on_the_margin() -> None:
    """Rejections when the truth is the margin itself, over 1500 samples of 9, against alpha."""
    samples = 1.0 + 0.3 * np.random.default_rng(0).normal(size=(1500, 9))
    rate = np.mean([equivalence_test(sample, 1.0).equivalent for sample in samples])
    # P(T <= 8) for n = 9 is 25/512, the largest that is at most .05.
    assert abs(rate - 25 / 512) < 4 * math.sqrt(0.05 * 0.95 / 1500)


def test_within_margin_of_the_crossed_test() -> None:
    """The crossed test's 90% interval within the margin against two one-sided t tests with its degrees of freedom."""
    d = np.random.default_rng(4).normal(0.1, 0.6, size=(8, 4))
    for margin in (0.2, 0.3, 0.5, 1.0):
        test = crossed_test(d, confidence=0.9)
        above = crossed_test(d + margin, alternative="greater").p_value
        below = crossed_test(d - margin, alternative="less").p_value
        assert above is not None
        assert below is not None
        assert test.interval is not None
        assert within_margin(test.interval, margin) == (max(above, below) <= 0.05)
        assert above == pytest.approx(
            stats.t.sf((d.mean() + margin) / test.standard_error, test.degrees_of_freedom)
        )
    assert within_margin(crossed_test([[1.0, 2.0]]).interval, 1.0) is None  # type: ignore[arg-type]


def test_unusable() -> None:
    """A margin and a level out of range against ValueError."""
    for margin in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="margin"):
            equivalence_test([1.0, 2.0], margin)
    with pytest.raises(ValueError, match="alpha"):
        equivalence_test([1.0, 2.0], 1.0, alpha=0.5)
