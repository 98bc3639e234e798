"""What stands around the headline test, by way of `compare`."""

from typing import Any

import numpy as np
import pytest
import scipy.stats

from analysis.results.model import Comparison, Inference, Metric
from analysis.results.table import runs_from_frame
from tests.analysis.analysis_examples import DECLARED, KL, LC, LENGTH, compare, sweep

BOUNDED = LC.model_copy(update={"attainable": (0.0, 100.0)})
# 7 settings x 2 seeds
DIFFERENCES = [[1.5, 0.3], [2.0, 1.0], [-0.8, 0.4], [0.9, 2.2], [1.1, 0.6], [3.0, 2.5], [0.2, 1.7]]


def around(differences: Any, metric: Metric = BOUNDED, **declared: Any) -> Inference:
    (found,) = compare(
        **sweep(differences, metric.name),
        declared=DECLARED.model_copy(update={"primary": metric.name, **declared}),
        metrics=[metric],
    )
    assert found.inference is not None
    return found.inference


def test_against_scipy() -> None:
    """Headline under each zero method, pooled pairs, settings won against scipy's exact tests."""
    found = around(DIFFERENCES)
    means = np.mean(DIFFERENCES, axis=1)
    headline = scipy.stats.wilcoxon(means, method="exact").pvalue
    assert {name: test.p_value for name, test in found.zero_methods.items()} == pytest.approx(
        dict.fromkeys(("pratt", "wilcox", "zsplit"), headline)
    )
    assert found.pooled is not None
    assert found.pooled.test.p_value == pytest.approx(
        scipy.stats.wilcoxon(np.ravel(DIFFERENCES), method="exact").pvalue
    )
    assert found.pooled.over_settings.p_value == pytest.approx(headline)
    assert "not independent" in found.pooled.warning
    assert found.settings_won is not None
    assert (found.settings_won.won, found.settings_won.lost) == (6, 1)
    share = scipy.stats.binomtest(6, 7).proportion_ci(method="exact")
    assert found.settings_won.share is not None
    assert (found.settings_won.share.low, found.settings_won.share.high) == pytest.approx(
        (share.low, share.high)
    )


def test_unit_and_what_it_shares() -> None:
    """The unit of the headline test against the sweep: 7 settings that share 2 seeds."""
    unit = around(DIFFERENCES).unit
    assert (unit.name, unit.n, unit.shared[0]) == ("setting", 7, "the 2 seeds")
    assert unit.population == "similar settings, same seeds"


def test_direction() -> None:
    """A one-sided declaration reaches both tests and the missing rules; p against half of two-sided."""
    two, one = around(DIFFERENCES), around(DIFFERENCES, alternative="greater")
    assert one.crossed.p_value is not None
    assert 2 * one.crossed.p_value == pytest.approx(two.crossed.p_value)
    assert one.zero_methods["pratt"].p_value == pytest.approx(two.zero_methods["pratt"].p_value / 2)
    assert one.missing is not None
    assert {rule.test.alternative for rule in one.missing.rules if rule.test} == {"greater"}


def test_self_check_of_an_exact_test() -> None:
    """Over all 2^7 sign patterns the exact test's rate against the share of patterns it can reject, at most alpha."""
    check = around(DIFFERENCES).self_check
    assert check is not None
    assert (check.exhaustive, check.flips) == (True, 128)
    # n = 7: P(W <= 2) * 2 = 2 * 3 / 128 = .047 and P(W <= 3) * 2 = 2 * 5 / 128 > .05, so W <= 2 rejects.
    assert check.rejected == 6


def test_missing_runs_first_as_intended_to_treat() -> None:
    """A diverged run of the candidate against the worst win rate, then complete pairs, then bounds."""
    with_gap: list[list[Any]] = [list(row) for row in DIFFERENCES]
    with_gap[2][1] = "diverged"
    missing = around(with_gap).missing
    assert missing is not None
    assert [rule.rule for rule in missing.rules] == [
        "intention to treat",
        "complete pairs",
        "lowest difference",
        "highest difference",
    ]
    assert missing.rules[0].filled == ["beta=2, seed 1: adadpo diverged, taken as 0"]
    assert missing.rules[1].left_out == 1
    assert (missing.failures.only_candidate, missing.failures.p_value) == (1, 1)


def test_each_setting_is_not_testable_with_two_seeds() -> None:
    """Every setting by itself against "not testable": 2 / 2^2 is the smallest p; none is called not significant."""
    settings = around(DIFFERENCES).by_setting
    assert [each.testable for each in settings] == [False] * 7
    assert {each.reason for each in settings} == {"not testable (smallest p .500)"}


def test_equivalence_and_bayes_use_the_declared_rope() -> None:
    """Small differences in a wide rope against equivalent and a posterior within it; no margin, no test, a reason."""
    wide = around(DIFFERENCES, rope=10.0)
    assert wide.equivalence is not None
    assert (wide.equivalence.margin, wide.equivalence.equivalent) == (10.0, True)
    assert wide.bayesian is not None
    assert wide.bayesian.p_within == 1
    none = around(DIFFERENCES, rope=0.0)
    assert none.equivalence is None
    assert none.reasons["equivalence"] == "needs a margin above 0 and an alpha below 0.5"


def test_the_seed_of_the_draws() -> None:
    """The same seed against the same value, another against another one; the seed is in the result."""

    def drawn(seed: int) -> Inference | None:
        return compare(**sweep(DIFFERENCES), declared=DECLARED, metrics=[LC], rng_seed=seed)[0].inference

    first, again, other = drawn(3), drawn(3), drawn(4)
    assert first == again
    assert first is not None
    assert other is not None
    assert first.rng_seed == 3
    assert first.bayesian != other.bayesian
    assert first.crossed == other.crossed


def test_other_metrics_have_less() -> None:
    """A secondary metric without a direction against what it has, with reasons for what has no direction."""
    runs = sweep(DIFFERENCES)
    for run in runs["runs"]:
        run.metrics["length"] = run.metrics[LC.name]
    _, length = compare(**runs, declared=DECLARED, metrics=[LC, LENGTH])
    found = length.inference
    assert found is not None
    assert found.crossed.p_value is not None
    assert (found.pooled, found.missing, found.self_check, found.settings_won) == (None,) * 4
    assert found.reasons["settings_won"] == "neither direction of length is better"


def test_without_bounds_missing_runs_have_a_reason() -> None:
    """A metric without a worst value against no intention to treat, and why."""
    missing = around([[1, "diverged"], *DIFFERENCES[1:]], KL).missing
    assert missing is not None
    assert missing.rules[0].test is None
    assert missing.rules[0].reason == "KL has no worst and best value to give to a missing run"


def test_no_pair_no_inference() -> None:
    """A comparison without a complete pair against None; its reason is the comparison's."""
    (found,) = compare(**sweep([["failed"]]), declared=DECLARED, metrics=[LC])
    assert found.inference is None
    assert found.test_reason is not None


def test_a_large_sweep_says_what_it_does_not_do() -> None:
    """70 settings x 3 seeds against reasons instead of minutes of enumeration of what is descriptive."""
    found = around(np.random.default_rng(0).normal(size=(70, 3)).tolist())
    assert (found.pooled, found.self_check) == (None, None)
    assert "210 pairs" in found.reasons["pooled"]
    assert "70 settings" in found.reasons["self_check"]


def test_json_round_trip() -> None:
    """A comparison as results.json holds it against itself; one of an older file is read too."""
    (found,) = compare(**sweep(DIFFERENCES), declared=DECLARED, metrics=[BOUNDED])
    assert Comparison.model_validate_json(found.model_dump_json()) == found
    old = found.model_dump(exclude={"inference"})
    assert Comparison.model_validate(old).inference is None


def test_other_peoples_tables() -> None:
    """A DataFrame with arm, setting, seed and metric against the same runs given as rows."""
    pandas = pytest.importorskip("pandas")
    given = sweep(DIFFERENCES)
    rows = [
        {"arm": r.arm, "setting": r.setting, "seed": r.seed, LC.name: r.metrics[LC.name]}
        for r in given["runs"]
    ]
    frame = pandas.DataFrame(rows)
    (a,) = compare(**given, declared=DECLARED, metrics=[LC])
    (b,) = compare(**{**given, "runs": runs_from_frame(frame)}, declared=DECLARED, metrics=[LC])
    assert a.inference == b.inference
