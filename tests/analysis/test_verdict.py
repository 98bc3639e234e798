import re
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.prompts.bootstrap import PromptBootstrap
from analysis.results.model import Metric
from analysis.results.words import format_amount, format_p
from tests.analysis.analysis_examples import DECLARED, KL, LC, LENGTH, analyse, drawn, sweep

ALONE = "Run-level data cannot say whether this holds for other prompts"


def verdict(
    differences: Any,
    metric: Metric = LC,
    changed: tuple[str, ...] = (),
    bootstrap: PromptBootstrap | None = None,
    prompts: int | None = None,
    **declared: Any,
) -> tuple[str, str]:
    result = analyse(
        **sweep(differences, metric.name),
        declared=DECLARED.model_copy(update={"primary": metric.name, **declared}),
        metrics=[metric],
        declaration_changed=changed,
        bootstrap=bootstrap,
        prompts=prompts,
    )
    return result.verdict_kind, result.verdict


# Expected sentences are written by hand; their numbers are those of
# tests/analysis/test_intervals.py and test_signed_rank.py: with n = 6 the interval is the range, exact 1 -
# 2/64, and p = 2/64 when all agree.
def test_better() -> None:
    """Six settings that agree, two seeds, against the sentence written by hand."""
    kind, sentence = verdict([[0.2, 0.4], [1, 1], [2, 2], [2.5, 2], [3, 3], [4, 4]])
    assert kind == "better"
    assert sentence == (
        "adadpo scores higher than dpo on LC win rate: +2.1 points (95% CI 0.3 to 4.0, exact 96.9%), "
        "Wilcoxon signed-rank over 6 settings averaged over 2 seeds, p = .031. With settings and seeds as samples: "
        f"+2.1 (95% CI 0.7 to 3.5), p = .018. {ALONE}."
    )


def test_worse() -> None:
    """The same with the sign changed against "lower" and "worse"."""
    kind, sentence = verdict([[-1, -1], [-2, -2], [-3, -3], [-4, -4], [-5, -5], [-6, -6]])
    assert kind == "worse"
    # Seeds agree exactly, so that the generalization test is Student's t over settings: scipy.stats.ttest_1samp([1,
    # ..., 6], 0) has p = .00604 and the interval 3.5 +- 2.5706 * sqrt(3.5 / 6) = 1.537 to 5.463.
    assert sentence == (
        "adadpo scores lower than dpo on LC win rate: −3.5 points (95% CI −6.0 to −1.0, exact 96.9%), "
        "Wilcoxon signed-rank over 6 settings averaged over 2 seeds, p = .031. With settings and seeds as samples: "
        f"−3.5 (95% CI −5.5 to −1.5), p = .006. {ALONE}."
    )


def test_one_seed_establishes_nothing() -> None:
    """Settings that agree with one seed against "inconclusive", for either direction, and what to add."""
    for sign, favoured in ((1, "adadpo"), (-1, "dpo")):
        kind, sentence = verdict([[sign * d] for d in (1, 2, 3, 4, 5, 6)])
        assert kind == "inconclusive"
        assert sentence.startswith(
            f"Not established: at this one seed the settings favour {favoured} on LC win rate: "
        )
        assert sentence.endswith("p = .031. One seed cannot show whether other seeds agree: add seeds.")
    kind, sentence = verdict([[0.1], [-0.2], [0.3], [-0.1], [0.2], [-0.3], [0.15]])
    assert kind == "inconclusive"
    assert sentence.startswith(
        "Not established: at this one seed adadpo and dpo are practically equivalent on"
    )
    assert sentence.endswith("add seeds.")


def test_gaps_that_leave_no_generalization_test() -> None:
    """Two seeds of which no two settings have both against "inconclusive" with the reason."""
    differences: list[list[Any]] = [[d, "failed"] for d in (1, 2, 3, 4, 5)] + [[6, 7]]
    kind, sentence = verdict(differences)
    assert kind == "inconclusive"
    assert "the settings favour adadpo" in sentence
    assert (
        "Whether other seeds agree is unknown (needs 2 settings and 2 seeds without a missing pair, has "
        "6 and 1). 5 of 12 pairs are missing."
    ) in sentence


def test_a_generalization_test_that_does_not_reject() -> None:
    """Six settings that agree on the average of two seeds which do not, against the sentence; p by hand."""
    differences = np.array([[6.2, -4], [5, -3], [8, -5], [7, -4], [6, -3.5], [9, -5]])
    kind, sentence = verdict(differences.tolist())
    assert kind == "inconclusive"
    # MS of seeds dominates all else, so that the generalization test is nearly Student's t over the two seeds, one
    # degree of freedom.
    p = scipy.stats.ttest_1samp(differences.mean(axis=0), 0).pvalue
    found = re.search(
        rf"p = (\.\d+)\. {re.escape(ALONE)}\. Other seeds may not show the difference\.$",
        sentence,
    )
    assert found is not None
    assert float(found[1]) == pytest.approx(p, abs=0.005)
    assert sentence.startswith(
        "Not established: at these seeds and prompts the settings favour adadpo on LC win rate: +1.4 points (95% CI "
        "1.0 to 2.0, exact 96.9%), Wilcoxon signed-rank over 6 settings averaged over 2 seeds, p = .031. With settings "
        "and seeds as samples: +1.4 (95% CI −68.2 to 71.0), p = "
    )


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        (20, f"{ALONE}."),
        (805, f"{ALONE}."),
        (None, f"{ALONE}."),
    ],
)
def test_of_which_prompts_it_speaks(prompts: int | None, said: str) -> None:
    """Without prompt-level data against a sentence that claims no other prompts."""
    assert said in verdict([[1, 1], [2, 2], [2.5, 2], [3, 3], [4, 4], [5, 5]], prompts=prompts)[1]


def test_prompts_are_a_sample() -> None:
    """Draws that hardly move the difference against "better" of prompts too; draws that move it against doubt."""
    differences = [[0.2, 0.4], [1, 1], [2, 2], [2.5, 2], [3, 3], [4, 4]]
    kind, sentence = verdict(differences, bootstrap=drawn(0.1))
    assert kind == "better"
    assert ". With settings, seeds and 400 prompts as samples: +2.1 (95% CI 0." in sentence
    assert "other prompts" not in sentence
    kind, sentence = verdict(differences, bootstrap=drawn(2.0))
    assert kind == "inconclusive"
    assert sentence.startswith("Not established: at these seeds and prompts the settings favour adadpo")
    assert sentence.endswith(". Other seeds or prompts may not show the difference.")
    assert verdict(differences, bootstrap=drawn(2.0, prompts=20))[0] == "inconclusive"
    kind, sentence = verdict(differences, bootstrap=drawn(0.1, prompts=20))
    assert kind == "better"  # of a metric that one prompt can move without bounds
    assert "With settings, seeds and 20 prompts as samples" in sentence


def test_prompts_too_few_for_any_method() -> None:
    """The same draws of a win rate: 20 prompts against doubt, 805 against "better"."""
    differences = [[0.2, 0.4], [1, 1], [2, 2], [2.5, 2], [3, 3], [4, 4]]
    bounded = LC.model_copy(update={"attainable": (0.0, 100.0)})
    kind, sentence = verdict(differences, bounded, bootstrap=drawn(0.1, prompts=20))
    assert kind == "inconclusive"
    assert sentence.endswith("Other seeds or prompts may not show the difference.")
    kind, sentence = verdict(differences, bounded, bootstrap=drawn(0.1, prompts=805))
    assert kind == "better"


def test_lower_can_be_better() -> None:
    """A metric that is better when lower, declared one-sided, against "lower" and "better"."""
    kind, sentence = verdict([[-d, -d] for d in (1, 2, 3, 4, 5, 6)], KL, alternative="less")
    assert kind == "better"
    assert sentence.startswith("adadpo scores lower than dpo on KL: −3.50 nats (95% CI −6.00 to −1.00")
    # half of the two-sided p of `test_worse`
    assert (
        "one-sided p = .016. With settings and seeds as samples: −3.50 (95% CI −5.46 to −1.54), one-sided p = .003"
        in sentence
    )


def test_no_difference_at_all_is_no_equivalence() -> None:
    """An evaluation that gives every run the same value against a sentence that says so."""
    kind, sentence = verdict([[0, 0]] * 6)
    assert kind == "inconclusive"
    assert sentence == (
        "adadpo and dpo scored identically on LC win rate at every setting "
        "(Wilcoxon signed-rank over 6 settings averaged over 2 seeds, p = 1)."
    )


def test_an_interval_that_has_its_level() -> None:
    """Of 30 settings: 2 P(W <= 137) is .0497 (tables of the signed-rank test), so that "exact 95.0%" says nothing."""
    _, sentence = verdict([[k - 9] for k in range(1, 31)])
    assert re.search(r"points \(95% CI \S+ to \S+\), Wilcoxon signed-rank over 30 settings", sentence), (
        sentence
    )


def test_inconclusive() -> None:
    """Settings that disagree against a sentence that decides nothing and claims no absence of an effect."""
    kind, sentence = verdict([[3, 3], [-2, -2], [4, 4], [1, 1], [-1, -1.5], [2, 2.5]])
    assert kind == "inconclusive"
    assert sentence == (
        "Undecided. adadpo minus dpo on LC win rate: +1.0 points (95% CI "
        "−2.0 to 4.0, exact 96.9%), Wilcoxon signed-rank over 6 settings averaged over 2 seeds, p = .312. "
        f"With settings and seeds as samples: +1.2 (95% CI −1.3 to 3.7), p = .285. {ALONE}. "
        "Equivalence (±1.0 points) is not established."
    )


@pytest.mark.parametrize(("alternative", "word"), [("greater", "higher"), ("less", "lower")])
def test_inconclusive_one_sided(alternative: str, word: str) -> None:
    """A declared direction that is not shown against a sentence about that direction."""
    sign = -1 if alternative == "greater" else 1
    kind, sentence = verdict([[sign * d] for d in (1, 2, 3, 4, 5, 6)], alternative=alternative)
    assert kind == "inconclusive"
    assert sentence.startswith(f"Undecided: the data do not show that adadpo scores {word} than dpo. ")
    assert "one-sided p = 1." in sentence


def test_equivalent() -> None:
    """Small differences of both signs against equivalence by the 90% interval within the rope."""
    small = [[d, d] for d in (0.1, -0.2, 0.3, -0.1, 0.2, -0.3, 0.15)]
    kind, sentence = verdict(small)
    assert kind == "equivalent"
    assert sentence.startswith(
        "adadpo and dpo are practically equivalent on LC win rate (90% CI −0.2 to 0.2, exact "
    )
    assert "within ±1.0 points): +0.0 points (95% CI" in sentence
    assert verdict(small, rope=0.1)[0] == "inconclusive"
    # The same means over seeds that disagree: equivalent at these seeds, by a generalization test whose interval is
    # wide
    apart = [[d + 3, d - 3] for d, _ in small]
    kind, sentence = verdict(apart)
    assert kind == "inconclusive"
    assert sentence.startswith(
        "Not established: at these seeds and prompts adadpo and dpo are practically equivalent"
    )


def test_better_by_less_than_matters() -> None:
    """A significant difference within the rope against "better" with equivalence in the same sentence."""
    kind, sentence = verdict([[d, d] for d in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)])
    assert kind == "better"
    assert "The difference is practically equivalent to 0 (90% CI" in sentence


def test_untestable() -> None:
    """Four settings, where p cannot reach alpha, against a sentence that says so with the number."""
    kind, sentence = verdict([[1, 2], [2, 3], [3, 4], [4, 5]])
    assert kind == "untestable"
    assert sentence == (
        "Not testable: with 4 settings the smallest attainable two-sided p is .125, above alpha = .05. "
        "adadpo minus dpo on LC win rate: +3.0 points (with n = 4 no interval reaches 95%: the widest "
        "reaches 87.5%), Wilcoxon signed-rank over 4 settings averaged over 2 seeds, p = .125. "
        f"With settings and seeds as samples: +3.0 (95% CI −3.7 to 9.7), p = .119. {ALONE}."
    )
    assert "with 1 setting the smallest attainable two-sided p is 1, above" in verdict([[1.0]])[1]
    assert verdict([[1, 1.1], [2, 2.1], [3, 3.1], [4, 4.1], [5, 5.1]], alternative="greater")[0] == "better"
    zeros = verdict([[9], [0], [-8], [7], [0], [6]])
    assert zeros[0] == "untestable"
    assert (
        "with 6 settings (2 of them without a difference) the smallest attainable two-sided p is .125"
        in zeros[1]
    )


def test_missing_runs_are_mentioned() -> None:
    """Diverged runs and lost settings against one clause and the number of settings tested."""
    differences: list[list[Any]] = [[d, d + 0.1] for d in (1, 2, 3, 4, 5, 6, 7)]
    differences[0] = ["diverged", "diverged"]
    differences[1][1] = "failed"
    kind, sentence = verdict(differences)
    assert kind == "better"
    assert "over 6 of 7 settings averaged over 1 to 2 seeds, p = .031" in sentence
    assert sentence.endswith(
        f"{ALONE}. 3 of 14 pairs are missing "
        "(2 adadpo runs diverged; the result describes the runs that did not diverge)."
    )


def test_no_data() -> None:
    """A sweep of which nothing ran against an untestable verdict."""
    kind, sentence = verdict([["waiting", "waiting"], ["waiting", "diverged"]])
    assert kind == "untestable"
    assert sentence == (
        "Not testable: no setting has a complete pair of adadpo and dpo on LC win rate. 4 of 4 pairs are "
        "missing (1 adadpo run diverged; the result describes the runs that did not diverge)."
    )


def test_changed_declaration_is_said() -> None:
    """A declaration that changed after launch against a sentence that says exploratory."""
    sentence = verdict([[1], [2], [3], [4], [5], [6]], changed=("alpha: 0.05 -> 0.1",))[1]
    assert sentence.endswith(". Exploratory: the declaration changed after launch.")


def test_a_primary_needs_a_direction() -> None:
    """A primary metric of which neither direction is better against ValueError."""
    with pytest.raises(ValueError, match="primary 'length': neither direction is better"):
        verdict([[1]], LENGTH)


@pytest.mark.parametrize(
    ("p_value", "text"),
    [
        (0.0, "< .001"),
        (0.0009999, "< .001"),
        (0.001, "= .001"),
        (0.03125, "= .031"),
        (0.25, "= .250"),
        (0.05, "= .050"),
        (0.0499, "= .0499"),  # not ".050": it is significant at .05
        (0.050001, "= .050001"),
        (0.9994, "= .999"),
        (0.9996, "= 1"),
        (1.0, "= 1"),
    ],
)
def test_format_p(p_value: float, text: str) -> None:
    """p-values against APA style."""
    assert format_p(p_value) == text


def test_format_amount() -> None:
    """Amounts with sign and unit against text by hand; no -0.0."""
    assert format_amount(-0.04, LC, signed=True) == "+0.0 points"
    assert format_amount(2.06, LC, signed=True) == "+2.1 points"
    assert format_amount(1234.5, LENGTH.model_copy(update={"unit": ""})) == "1234"
    assert format_amount(-0.004, KL, unit=False) == "0.00"


@given(
    st.lists(
        st.lists(st.integers(-9, 9) | st.just("diverged"), min_size=2, max_size=2), min_size=1, max_size=9
    ),
    st.sampled_from(["two-sided", "greater", "less"]),
)
@settings(deadline=None, max_examples=150)
def test_any_sweep_has_a_verdict(differences: Any, alternative: str) -> None:
    """The verdict of any sweep against what it must name, and words it must not use."""
    kind, sentence = verdict(differences, alternative=alternative)
    assert sentence.endswith(".")
    assert "None" not in sentence
    assert "no effect" not in sentence
    assert "0.000" not in sentence
    if any("diverged" not in pair for pair in map(tuple, differences)) or "p " in sentence:
        assert re.search(r"\bp [=<] (\.\d+|1)", sentence)
        assert re.search(r"Wilcoxon signed-rank over \d", sentence)
    else:
        assert kind == "untestable"
