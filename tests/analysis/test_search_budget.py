import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from analysis.grid.best_setting import SearchBudgets, compare_search_budgets, expected_best, expected_maximum

VALUES = st.lists(st.integers(-9, 9), min_size=1, max_size=5)


@given(VALUES)
@settings(deadline=None, max_examples=40)
def test_expected_best(values: list[int]) -> None:
    """The curve against the mean of the best of all N^n draws with replacement; the lowest against its mirror."""
    curve = expected_best(values)
    for n in range(1, min(len(values), 4) + 1):
        draws = itertools.product(values, repeat=n)
        assert curve[n - 1] == pytest.approx(np.mean([max(draw) for draw in draws]))
    assert curve == pytest.approx(sorted(curve))
    lowest = expected_best([-v for v in values], higher_is_better=False)
    assert lowest == pytest.approx([-best for best in curve])
    assert expected_best(values[::-1]) == curve


@pytest.mark.parametrize(("n", "published"), [(9, 1.485), (12, 1.629), (48, 2.233)])
def test_expected_maximum(n: int, published: float) -> None:
    """The expected maximum of null settings against normal order statistics (Harter 1961) and numerical integration."""
    expected = integrate.quad(lambda x: x * n * stats.norm.pdf(x) * stats.norm.cdf(x) ** (n - 1), -12, 12)[0]
    assert expected_maximum(n) == pytest.approx(expected, abs=1e-7)
    assert expected_maximum(n) == pytest.approx(published, abs=0.001)


def test_expected_maximum_in_closed_form() -> None:
    """1, 2 and 3 values against 0, 1 / sqrt(pi) and 1.5 / sqrt(pi)."""
    for n, exact in ((1, 0.0), (2, np.pi**-0.5), (3, 1.5 * np.pi**-0.5)):
        assert expected_maximum(n) == pytest.approx(exact, abs=1e-9)
    with pytest.raises(ValueError, match="at least 1 value"):
        expected_maximum(0)


def test_unequal_grids_are_flagged() -> None:
    """12 against 6 null settings against 67%, by arithmetic and by simulation."""
    rng = np.random.default_rng(0)
    budgets = compare_search_budgets(rng.normal(size=12), rng.normal(size=6))
    assert budgets.null_win_share == pytest.approx(0.67, abs=0.004)
    wins = (rng.normal(size=(4000, 12)).max(axis=1) > rng.normal(size=(4000, 6)).max(axis=1)).mean()
    assert abs(wins - budgets.null_win_share) < 4 * (2 / 9 / 4000) ** 0.5
    assert (budgets.unequal, budgets.common) == (True, 6)
    assert budgets.difference == pytest.approx(budgets.candidate[5] - budgets.baseline[5])
    assert budgets.warning == (
        "unequal grids: with 12 settings against 6 the candidate's best is the better one 67% of the time even when "
        "nothing differs; compare at 6"
    )
    assert SearchBudgets.model_validate_json(budgets.model_dump_json()) == budgets
    equal = compare_search_budgets([1.0, 2.0], [1.0, 3.0])
    assert (equal.unequal, equal.warning, equal.null_win_share) == (False, None, 0.5)
    assert equal.difference == pytest.approx(-0.75)  # 2 - .25 x 1 = 1.75 against 2.5


@pytest.mark.parametrize("bad", [[], [1.0, float("nan")]])
def test_unusable(bad: list[float]) -> None:
    """No values, and values that are not numbers, against ValueError."""
    with pytest.raises(ValueError, match="difference"):
        expected_best(bad)
