"""Two models' annotations joined by prompt, against counts made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scipy.stats import binomtest

from adadpo.errors import UnlikeError
from analysis.alpaca_eval.annotations import Annotation
from analysis.prompts.paired import SAME, PromptPair, count_prompts, flipped, outcome, pair_prompts


def side(model: str, preferences: list[float | None]) -> list[Annotation]:
    return [
        Annotation(
            instruction=f"Say {i}.",
            output_1=f"one {i}",
            generator_1="baseline",
            output_2=f"{model} {i}",
            generator_2=model,
            annotator="judge",
            preference=preference,
        )
        for i, preference in enumerate(preferences)
    ]


A = side("a", [2.0, 1.9, 1.0, 1.5, 1.2, None, 1.6])
B = side("b", [1.0, 1.8, 1.7, 1.5, 1.2 + SAME / 2, 1.3, 1.4])


def test_pairs_by_instruction() -> None:
    """Pairs against both files, whatever B's order; a prompt without a preference is counted, not compared."""
    paired = pair_prompts(A, B[::-1])
    assert [pair.instruction for pair in paired.pairs] == [f"Say {i}." for i in (0, 1, 2, 3, 4, 6)]
    first = paired.pairs[0]
    assert (first.baseline_output, first.output_a, first.output_b) == ("one 0", "a 0", "b 0")
    assert (first.preference_a, first.preference_b, first.difference) == (2.0, 1.0, 1.0)
    assert (paired.only_a, paired.only_b, paired.unjudged) == (0, 0, 1)


def test_counts() -> None:
    """Counts of six pairs made by hand: a difference below SAME is a tie, flips are win against loss."""
    pairs = pair_prompts(A, B).pairs
    counts = count_prompts(pairs)
    assert (counts.n, counts.a_better, counts.b_better, counts.ties) == (6, 3, 1, 2)
    assert (counts.flips_to_a, counts.flips_to_b) == (2, 1)
    assert counts.outcomes == {
        "win": {"win": 1, "draw": 0, "loss": 2},
        "draw": {"win": 0, "draw": 1, "loss": 0},
        "loss": {"win": 1, "draw": 0, "loss": 1},
    }
    assert counts.sign_p_value == pytest.approx(binomtest(3, 4).pvalue)
    assert counts.mcnemar_p_value == pytest.approx(binomtest(2, 3).pvalue)


def test_flipped_are_sorted() -> None:
    """The largest difference first; of equal ones the earlier prompt."""
    found = flipped(pair_prompts(A, B).pairs)
    assert [(pair.instruction, pair.flip) for pair in found] == [
        ("Say 0.", "a"),
        ("Say 2.", "b"),
        ("Say 6.", "a"),
    ]


@pytest.mark.parametrize(("preference", "word"), [(1.5, "draw"), (1.5000001, "win"), (1.4999999, "loss")])
def test_outcomes(preference: float, word: str) -> None:
    """alpaca_eval's rule: above 1.5 a win, below it a loss."""
    assert outcome(preference) == word
    assert PromptPair("", "", "", "", preference, 1.5).flip is None


def test_unlike_annotations_are_refused() -> None:
    """Another judge, baseline, baseline's answers or prompts: an error that names both values."""
    for changes, message in (
        ({"annotator": "x"}, "different judges: A 'judge', B 'x'"),
        ({"generator_1": "x"}, "different baselines: A 'baseline', B 'x'"),
        ({"output_1": "x"}, "different answers in A and B to 7 of 7 prompts, the first: 'Say 0.'"),
    ):
        with pytest.raises(UnlikeError, match=message):
            pair_prompts(A, [replace(row, **changes) for row in B])
    with pytest.raises(
        UnlikeError, match=r"only in A 1 prompts, only in B 0, in both 6; only in A, .*'Say 0\.'"
    ):
        pair_prompts(A, B[1:])
    with pytest.raises(UnlikeError, match="no prompt in common: A has 1, B has 1"):
        pair_prompts(A[:1], B[1:2], common_prompts=True)
    with pytest.raises(UnlikeError, match="no prompt in common: A has 7, B has 0"):
        pair_prompts(A, [])


def test_common_prompts_on_request() -> None:
    """The prompts of both, and how many each side loses."""
    paired = pair_prompts(A[1:], B[:-2], common_prompts=True)
    assert [pair.instruction for pair in paired.pairs] == ["Say 1.", "Say 2.", "Say 3.", "Say 4."]
    assert (paired.only_a, paired.only_b, paired.unjudged) == (2, 1, 0)


def test_nothing_flipped() -> None:
    """No pairs: counts of 0 and p of 1, nothing divided by nothing."""
    counts = count_prompts([])
    assert (counts.n, counts.sign_p_value, counts.mcnemar_p_value) == (0, 1.0, 1.0)
