from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.inference.intervals import (
    ProbabilityOfImprovement,
    SettingsWon,
    probability_of_improvement,
    settings_won,
)

NAN = float("nan")
VALUES = st.lists(st.lists(st.integers(0, 6), min_size=3, max_size=3), min_size=2, max_size=5)


def test_settings_won() -> None:
    """7 of 9 against 2 (36 + 9 + 1) / 512 and scipy's exact interval; binary noise and all ties against ties."""
    won = settings_won([1, 2, 3, 4, 5, 6, 7, -1, -2, 0.1 + 0.2 - 0.3])
    assert (won.won, won.tied, won.lost) == (7, 1, 2)
    assert won.p_value == pytest.approx(stats.binomtest(7, 9).pvalue)
    assert won.p_value == pytest.approx(0.18, abs=0.002)
    assert won.share is not None
    expected = stats.binomtest(7, 9).proportion_ci(0.95, method="exact")
    assert (won.share.low, won.share.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    lower = settings_won([1.0, 2.0, -3.0], higher_is_better=False)
    assert (lower.won, lower.lost) == (1, 2)
    tied = settings_won([0.0, 0.0])
    assert (tied.share, tied.p_value, tied.reason) == (None, 1, "every difference is 0")
    assert SettingsWon.model_validate_json(won.model_dump_json()) == won


@given(VALUES, st.integers(1, 4))
@settings(deadline=None, max_examples=40)
def test_mann_whitney(values: Any, seeds: int) -> None:
    """The probability at each setting against scipy's Mann-Whitney U over n m; swapped arms against 1 minus it."""
    a = np.array(values, dtype=float)
    b = np.random.default_rng(seeds).integers(0, 6, size=(len(a), seeds)).astype(float)
    result = probability_of_improvement(a, b)
    expected = [stats.mannwhitneyu(x, y).statistic / (len(x) * len(y)) for x, y in zip(a, b, strict=True)]
    assert result.by_setting == pytest.approx(expected)
    assert result.estimate == pytest.approx(np.mean(expected))
    swapped = probability_of_improvement(b, a)
    lower = probability_of_improvement(a, b, higher_is_better=False)
    assert swapped.estimate == pytest.approx(1 - np.mean(expected))
    assert lower.by_setting == pytest.approx(swapped.by_setting)
    shuffled = probability_of_improvement(a[:, ::-1], b[:, ::-1])
    assert shuffled == result
    assert ProbabilityOfImprovement.model_validate_json(result.model_dump_json()) == result


def test_missing_values() -> None:
    """A missing run against the others of its setting, a setting without runs against None."""
    result = probability_of_improvement([[1, NAN], [NAN, NAN]], [[0, 1], [1, 1]])
    assert (result.by_setting, result.estimate, result.settings) == ([0.75, None], 0.75, 1)
    nothing = probability_of_improvement([[NAN]], [[1]])
    assert (nothing.estimate, nothing.reason) == (None, "no setting has runs of both arms")


def test_unusable() -> None:
    """Tables that do not match and infinite values against ValueError."""
    for a, b in (([1, 2], [1, 2]), ([[1]], [[1], [2]]), ([[float("inf")]], [[1]])):
        with pytest.raises(ValueError, match=r"tables|finite"):
            probability_of_improvement(a, b)
