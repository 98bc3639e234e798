"""Several arms against one baseline."""

from typing import Any

import pytest
from scipy.stats import ttest_1samp

from analysis.results.model import Declared
from analysis.summary import Analysis
from tests.analysis.analysis_examples import DECLARED, LC, analyse, run

# Differences to the baseline at 7 settings, both seeds alike: 2 / 2^7 = .0156, 2 * 2 / 2^7 = .0312, 2 * 3 / 2^7 = .0469
ALL, BUT_SMALLEST, BUT_SECOND = (
    [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
    [-1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
    [1.0, -2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
)


def analysed(declared: Declared = DECLARED, **arms: list[float]) -> Analysis:
    """Settings share a baseline of 20 points plus their number."""
    given: dict[str, list[float]] = {"dpo": [0.0] * 7, **arms}
    runs = [
        run(arm, f"beta={k}", seed, {LC.name: 20.0 + k + d})
        for arm, differences in given.items()
        for k, d in enumerate(differences)
        for seed in (0, 1)
    ]
    return analyse(
        runs=runs,
        declared=declared,
        metrics=[LC],
        settings=[f"beta={k}" for k in range(7)],
        seeds=[0, 1],
        arms=list(given),
    )


def family(*more: str, **changes: Any) -> Declared:
    return DECLARED.model_copy(update={"more_candidates": list(more), **changes})


def test_holm_over_the_declared_family() -> None:
    """Three candidates with p 2/128, 4/128, 6/128 against Holm by hand: times 3, times 2, times 1, never falling."""
    found = analysed(family("simpo", "ipo"), adadpo=ALL, simpo=BUT_SMALLEST, ipo=BUT_SECOND)
    assert found.comparisons[0].adjusted_p == pytest.approx(6 / 128)
    assert [arm.candidate for arm in found.other_arms] == ["simpo", "ipo"]
    assert [arm.comparison.adjusted_p for arm in found.other_arms] == pytest.approx([8 / 128, 8 / 128])
    assert {arm.comparison.family for arm in found.other_arms} == {3}
    assert found.verdict_kind == "better"
    assert "p = .016 (Holm over 3 candidates: p = .047)" in found.verdict
    assert [arm.verdict_kind for arm in found.other_arms] == ["inconclusive", "inconclusive"]
    for comparison in (found.comparisons[0], *(arm.comparison for arm in found.other_arms)):
        assert comparison.inference is not None
        assert comparison.inference.equivalence is not None
        assert comparison.inference.equivalence.alpha == pytest.approx(0.05 / 3)
        assert comparison.inference.generalization is not None
        assert comparison.inference.generalization.narrow is not None
        assert comparison.inference.generalization.narrow.confidence == pytest.approx(1 - 2 * 0.05 / 3)
    # Seeds agree exactly, so that the generalization test is the t test over settings; Holm by hand: the smallest p
    # counts thrice.
    p_values = [float(ttest_1samp(d, 0).pvalue) for d in (ALL, BUT_SMALLEST, BUT_SECOND)]
    generalization = found.comparisons[0].inference and found.comparisons[0].inference.generalization
    assert generalization is not None
    assert generalization.p_value == pytest.approx(p_values[0], rel=1e-6)
    assert generalization.adjusted_p == pytest.approx(3 * min(p_values), rel=1e-6)
    assert all(arm.declared and arm.comparison.confirmatory for arm in found.other_arms)


def test_arms_that_were_not_declared_are_exploratory() -> None:
    """An arm outside the family against two-sided, exploratory, Benjamini-Hochberg, no verdict; the first unchanged."""
    declared = DECLARED.model_copy(update={"alternative": "greater"})
    found = analysed(declared, adadpo=ALL, simpo=ALL, ipo=BUT_SMALLEST)
    assert found.comparisons[0].adjusted_p is None
    assert found.verdict == analysed(declared, adadpo=ALL).verdict
    assert [arm.comparison.adjusted_p for arm in found.other_arms] == pytest.approx([4 / 128, 4 / 128])
    for arm in found.other_arms:
        assert not arm.declared
        assert arm.verdict is None
        assert not arm.comparison.confirmatory
        assert arm.comparison.test is not None
        assert arm.comparison.test.alternative == "two-sided"


def test_a_family_too_large_for_its_settings() -> None:
    """Four candidates over 7 settings: 4 * 2 / 128 > .05, so no outcome reaches alpha and the verdict says so."""
    found = analysed(family("a", "b", "c"), adadpo=ALL, a=ALL, b=ALL, c=ALL)
    assert found.verdict_kind == "untestable"
    assert "above alpha / 4 candidates = .0125" in found.verdict


def test_one_candidate_has_no_family() -> None:
    """Two arms: no other arms, nothing adjusted."""
    found = analysed(adadpo=ALL)
    assert found.other_arms == []
    assert (found.comparisons[0].adjusted_p, found.comparisons[0].family) == (None, 1)


def test_a_candidate_that_is_no_arm() -> None:
    """A misspelt member of the family against an error with the arms."""
    with pytest.raises(ValueError, match="candidate 'simpoo' is not an arm; arms: dpo, adadpo"):
        analysed(family("simpoo"), adadpo=ALL)
