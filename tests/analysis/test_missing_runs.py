from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.comparison import compare_pairs
from analysis.inference.missing_runs import MissingRuns, analyse_missing_runs
from analysis.inference.signed_rank import signed_rank_test
from analysis.results.table import pair_by_setting
from tests.analysis.analysis_examples import KL, LC, LENGTH, run, sweep

ARMS: dict[str, Any] = {"metric": LC, "baseline": "dpo", "candidate": "adadpo"}


def analyse(differences: Any, **options: Any) -> MissingRuns:
    """The baseline's values are 20 + 2 setting + seed."""
    example = sweep(differences)
    del example["arms"]
    return analyse_missing_runs(**ARMS | example | {"attainable": (0.0, 100.0)} | options)


def test_each_rule_by_hand() -> None:
    """Mean differences under each rule against values by hand, and what was filled in."""
    result = analyse([[1, "diverged"], [3, "waiting"], [5, 7]])
    treated, complete, lowest, highest = result.rules
    assert [rule.rule for rule in result.rules] == [
        "intention to treat",
        "complete pairs",
        "lowest difference",
        "highest difference",
    ]
    # The diverged run's partner has 21: 0 - 21. The waiting one's has 23 and stays out.
    assert treated.test == signed_rank_test([-10, 3, 6])
    assert treated.filled == ["beta=0, seed 1: adadpo diverged, taken as 0"]
    assert treated.left_out == 1
    assert complete.test == signed_rank_test([1, 3, 6])
    assert (complete.filled, complete.left_out) == ([], 2)
    assert lowest.mean == pytest.approx(((1 - 21) / 2 + (3 - 23) / 2 + 6) / 3)
    assert highest.mean == pytest.approx(((1 + 79) / 2 + (3 + 77) / 2 + 6) / 3)
    assert (lowest.left_out, highest.left_out) == (0, 0)
    assert highest.filled[1] == "beta=1, seed 1: adadpo has not run, taken as 100"
    assert MissingRuns.model_validate_json(result.model_dump_json()) == result


def test_complete_pairs_is_the_comparison() -> None:
    """The rule of complete pairs against `compare_pairs`, whose headline it is."""
    example = sweep([[1, "diverged"], ["failed", 2], [2, 4]])
    pairs = pair_by_setting(
        example["runs"],
        metric=LC.name,
        baseline="dpo",
        candidate="adadpo",
        settings=example["settings"],
        seeds=example["seeds"],
    )
    expected = compare_pairs(pairs, metric=LC)
    complete = analyse([[1, "diverged"], ["failed", 2], [2, 4]]).rules[1]
    assert (complete.test, complete.estimate) == (expected.test, expected.estimate)


def test_nothing_missing() -> None:
    """A complete sweep against four equal results."""
    rules = analyse([[1, 2], [3, 4]]).rules
    assert all(rule.model_copy(update={"rule": "complete pairs"}) == rules[1] for rule in rules)


CELLS = st.lists(
    st.lists(st.integers(-9, 9) | st.sampled_from(["diverged", "waiting"]), min_size=2, max_size=2),
    min_size=1,
    max_size=6,
)


@given(CELLS)
@settings(deadline=None, max_examples=50)
def test_bounds(differences: Any) -> None:
    """Every other rule's estimate on the same table against the two bounds; swapped arms against negated bounds."""
    result = analyse(differences)
    treated, _, lowest, highest = result.rules
    assert lowest.mean is not None
    assert highest.mean is not None
    assert lowest.mean <= highest.mean
    assert lowest.estimate is not None
    assert highest.estimate is not None
    assert lowest.estimate.estimate <= highest.estimate.estimate
    if treated.left_out == 0:
        assert treated.mean is not None
        assert lowest.mean - 1e-9 <= treated.mean <= highest.mean + 1e-9
    swapped = analyse(differences, baseline="adadpo", candidate="dpo").rules
    assert swapped[3].mean == pytest.approx(-lowest.mean)
    assert (
        result.failures.p_value == analyse(differences, baseline="adadpo", candidate="dpo").failures.p_value
    )


def test_a_metric_without_worst_value() -> None:
    """KL and a metric without direction against the reason, instead of complete pairs under another name."""
    example = sweep([[1, "diverged"], [2, 3]], metric="kl")
    del example["arms"]
    options = ARMS | example | {"metric": KL, "attainable": None}
    treated, complete, lowest, _ = analyse_missing_runs(**options).rules
    assert treated.reason == "KL has no worst and best value to give to a missing run" == lowest.reason
    assert (treated.test, treated.mean, treated.estimate) == (None, None, None)
    assert complete.test is not None
    # Lower is better: the worst of an attainable range is its upper end.
    filled = analyse_missing_runs(**options | {"attainable": (0.0, 50.0)}).rules[0].filled
    assert filled == ["beta=0, seed 1: adadpo diverged, taken as 50"]
    example = sweep([[1, "diverged"]], metric="length")
    del example["arms"]
    length = analyse_missing_runs(**ARMS | example | {"metric": LENGTH, "attainable": (0.0, 9e9)})
    assert length.rules[0].reason is not None  # neither end is worst
    assert length.rules[2].reason is None
    # Nothing failed: then intention to treat needs no worst value.
    assert analyse([[1, "waiting"]], attainable=None).rules[0].reason is None
    assert analyse([["waiting"]]).rules[1].reason == "no setting has a complete pair"


def test_failures() -> None:
    """Failures per arm against a count by hand, p against scipy.stats.binomtest on the discordant pairs."""
    states = [("done", "diverged")] * 6 + [("diverged", "done")] + [("diverged", "diverged")] * 2
    states += [("done", "done"), ("quarantined", "done"), ("done", "waiting"), ("done", "failed")]
    runs = [
        run(arm, "beta=0", seed, {LC.name: 1.0}, state)
        for seed, pair in enumerate(states)
        for arm, state in zip(("dpo", "adadpo"), pair, strict=True)
    ]
    plan: dict[str, Any] = {"settings": ["beta=0"], "seeds": range(14), "attainable": (0, 100)}
    failures = analyse_missing_runs(runs, **ARMS | plan).failures
    assert (failures.pairs, failures.candidate, failures.baseline) == (11, 8, 3)
    assert (failures.only_candidate, failures.only_baseline) == (6, 1)
    assert failures.p_value == pytest.approx(stats.binomtest(6, 7).pvalue)
    both = analyse_missing_runs(runs, **ARMS | plan | {"failures": ["diverged", "failed"]}).failures
    assert (both.pairs, both.only_candidate) == (12, 7)
    assert analyse([[1, 2]]).failures.p_value == 1


def test_unusable() -> None:
    """An attainable range in the wrong order against ValueError."""
    with pytest.raises(ValueError, match=r"\(lowest, highest\)"):
        analyse([[1]], attainable=(100.0, 0.0))
