from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.inference.multiplicity import benjamini_hochberg
from analysis.inference.pooled import PooledTest, explore_settings, pooled_signed_rank, zero_sensitivity
from analysis.inference.signed_rank import signed_rank_test
from analysis.results.model import unit_of_test

NAN = float("nan")


def test_pooled_is_descriptive() -> None:
    """Both tests against those of the pairs and of the means, and the words that must stand beside them."""
    table = np.array([[1.0, 2, 3], [2, -1, NAN], [0.5, 4, 1], [NAN, NAN, NAN]])
    pooled = pooled_signed_rank(table, prompts=805)
    assert pooled.test == signed_rank_test([1, 2, 3, 2, -1, 0.5, 4, 1])
    assert pooled.over_settings == signed_rank_test([2, 0.5, 5.5 / 3])
    assert (pooled.unit.name, pooled.unit.n, pooled.unit.independent) == ("pair", 8, False)
    assert pooled.unit.shared == ["the 3 settings", "the 3 seeds", "the 805 prompts and the judge"]
    assert (pooled.over_settings_unit.n, pooled.over_settings_unit.independent) == (3, True)
    # Ranks are 1 and, three times, 3 before 5.5: sums of at most W- = 3 have 5 of 256 patterns.
    assert pooled.warning == (
        "descriptive: the 8 pairs are not independent, they share 3 settings and 3 seeds, and where either matters "
        "p comes out too small (here .039); over the settings, p = .250"
    )
    assert PooledTest.model_validate_json(pooled.model_dump_json()) == pooled
    with pytest.raises(ValueError, match="at least one difference"):
        pooled_signed_rank([[NAN]])


def test_units() -> None:
    """What each test's unit counts, shares and speaks of, as written in the test."""
    over_settings = unit_of_test("setting", settings=9, seeds=3)
    assert (over_settings.n, over_settings.shared) == (9, ["the 3 seeds", "the prompts and the judge"])
    assert "same seeds" in over_settings.population
    crossed = unit_of_test("setting and seed", settings=9, seeds=3)
    assert (crossed.n, crossed.shared) == (27, ["the prompts and the judge"])
    assert unit_of_test("seed", settings=1, seeds=3).shared[0] == "the setting"
    assert unit_of_test("setting", settings=9, seeds=1).shared[0] == "the seed"
    assert unit_of_test("prompt", settings=1, seeds=1, prompts=805).n == 805
    with pytest.raises(ValueError, match="needs their number"):
        unit_of_test("prompt", settings=1, seeds=1)


def test_settings_by_themselves() -> None:
    """Three seeds against "not testable", six against a test, none against the reason; Benjamini-Hochberg over all."""
    table = [[1, 2, 3, NAN, NAN, NAN], [1, 2, 3, 4, 5, 6], [NAN] * 6]
    few, enough, none = explore_settings(table, ["a", "b", "c"])
    assert (few.testable, few.reason) == (False, "not testable (smallest p .250)")
    assert (enough.testable, enough.reason) == (True, None)
    assert (none.testable, none.reason, none.test, none.adjusted) == (False, "no complete pair", None, None)
    adjusted = benjamini_hochberg([0.25, 0.03125, None]).adjusted
    assert [few.adjusted, enough.adjusted] == adjusted[:2] == [pytest.approx(0.375), pytest.approx(0.09375)]
    with pytest.raises(ValueError, match="1 labels for 3 settings"):
        explore_settings(table, ["a"])


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=10))
@settings(deadline=None, max_examples=50)
def test_zeros(d: list[Any]) -> None:
    """Each treatment of zeros against `signed_rank_test`; halving their ranks changes no p-value."""
    tests = zero_sensitivity(d)
    assert list(tests) == ["pratt", "wilcox", "zsplit"]
    assert tests["pratt"] == signed_rank_test(d)
    assert tests["pratt"].p_value == tests["zsplit"].p_value
    assert tests["wilcox"].p_value == signed_rank_test(d, zero_method="wilcox").p_value
