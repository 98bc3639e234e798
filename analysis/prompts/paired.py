"""Two models' annotations joined prompt by prompt: who does better where, and which prompts flipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from adadpo.errors import UnlikeError, UnlikePromptsError
from analysis.alpaca_eval.annotations import DRAW, Annotation
from analysis.alpaca_eval.integrity_gate import Integrity, baseline_differences
from analysis.inference.intervals import sign_test
from analysis.results.model import Frozen

# Preferences that differ by less, one point of win probability, are ties: most prompts are lost by both models at
# 1.000000x, and which of them has the larger last digit says nothing.
SAME = 0.01

Outcome = Literal["win", "draw", "loss"]


@dataclass(frozen=True, slots=True)
class PromptPair:
    """One prompt with the baseline's and both models' answers; preferences in [1, 2]."""

    instruction: str
    baseline_output: str
    output_a: str
    output_b: str
    preference_a: float
    preference_b: float

    @property
    def difference(self) -> float:
        """A's preference minus B's, in [-1, 1]."""
        return self.preference_a - self.preference_b

    @property
    def flip(self) -> Literal["a", "b"] | None:
        """Who wins against the baseline where the other one loses; None where both come out alike, or draw."""
        outcomes = (outcome(self.preference_a), outcome(self.preference_b))
        return "a" if outcomes == ("win", "loss") else "b" if outcomes == ("loss", "win") else None


@dataclass(frozen=True, slots=True)
class PairedPrompts:
    """The prompts that both have a preference for, in A's order, and how many were left out and why."""

    pairs: list[PromptPair]
    only_a: int  # prompts that B lacks
    only_b: int
    unjudged: int  # common prompts without a preference on one side or both


class PromptCounts(Frozen):
    """How often A and B beat one another over the same prompts, and their outcomes against the baseline."""

    n: int
    a_better: int  # preference higher by `SAME` or more
    b_better: int
    ties: int
    sign_p_value: float  # exact, two-sided; ties are left out
    flips_to_a: int  # A wins against the baseline where B loses
    flips_to_b: int
    mcnemar_p_value: float  # exact, two-sided, on the flips
    outcomes: dict[Outcome, dict[Outcome, int]]  # A's -> B's -> prompts


def pair_prompts(
    a: Sequence[Annotation], b: Sequence[Annotation], *, common_prompts: bool = False
) -> PairedPrompts:
    """Join two models' annotations by instruction.

    Args:
        a: annotations as `read_annotations` gives them.
        b: the other model's.
        common_prompts: compare over the prompts of both where the prompt sets differ; else that is an error.

    Returns:
        Pairs with a preference on both sides; the others are counted.

    Raises:
        UnlikeError: another judge, another baseline or other answers of the baseline, or no prompt in common.
        UnlikePromptsError: another prompt set.
    """
    for key, role in (("annotator", "judge"), ("generator_1", "baseline")):
        names = [getattr(side[0], key) for side in (a, b) if side]
        if len(set(names)) > 1:
            raise UnlikeError(
                f"different {role}s: A {names[0]!r}, B {names[1]!r}: their win rates mean different things"
            )
    of_a, of_b = ({row.instruction: row for row in side} for side in (a, b))
    only_a, only_b = (
        [instruction for instruction in of_a if instruction not in of_b],
        [instruction for instruction in of_b if instruction not in of_a],
    )
    both = [instruction for instruction in of_a if instruction in of_b]
    if not both:
        raise UnlikeError(f"no prompt in common: A has {len(a)}, B has {len(b)}")
    if (only_a or only_b) and not common_prompts:
        side, example = ("A", only_a[0]) if only_a else ("B", only_b[0])
        raise UnlikePromptsError(
            f"different prompt sets: only in A {len(only_a)} prompts, only in B {len(only_b)}, in both {len(both)}; "
            f"only in {side}, for one: {example[:60]!r}"
        )
    texts = ({instruction: side[instruction].output_1 for instruction in both} for side in (of_a, of_b))
    if changed := baseline_differences(*texts):
        raise UnlikeError(
            f"the baseline {a[0].generator_1!r} gives different answers in A and B to {len(changed)} of "
            f"{len(both)} prompts, the first: {changed[0][:60]!r}"
        )
    pairs = []
    for instruction in both:
        first, second = of_a[instruction], of_b[instruction]
        if first.preference is not None and second.preference is not None:
            pairs.append(
                PromptPair(
                    instruction=instruction,
                    baseline_output=first.output_1,
                    output_a=first.output_2,
                    output_b=second.output_2,
                    preference_a=first.preference,
                    preference_b=second.preference,
                )
            )
    return PairedPrompts(pairs=pairs, only_a=len(only_a), only_b=len(only_b), unjudged=len(both) - len(pairs))


def count_prompts(pairs: Sequence[PromptPair]) -> PromptCounts:
    """Count who does better, prompt by prompt.

    The sign test and McNemar's are over prompts: they speak of these two files, not of another training run.

    Source: McNemar (1947), Psychometrika 12:153, exact by the binomial distribution.
    """
    a_better = sum(pair.difference >= SAME for pair in pairs)
    b_better = sum(pair.difference <= -SAME for pair in pairs)
    outcomes: dict[Outcome, dict[Outcome, int]] = {
        mine: dict.fromkeys(("win", "draw", "loss"), 0) for mine in ("win", "draw", "loss")
    }
    for pair in pairs:
        outcomes[outcome(pair.preference_a)][outcome(pair.preference_b)] += 1
    to_a, to_b = outcomes["win"]["loss"], outcomes["loss"]["win"]
    return PromptCounts(
        n=len(pairs),
        a_better=a_better,
        b_better=b_better,
        ties=len(pairs) - a_better - b_better,
        sign_p_value=sign_test(a_better, b_better),
        flips_to_a=to_a,
        flips_to_b=to_b,
        mcnemar_p_value=sign_test(to_a, to_b),
        outcomes=outcomes,
    )


def flipped(pairs: Sequence[PromptPair]) -> list[PromptPair]:
    """The prompts that one wins and the other loses, the largest difference first; equal ones in order."""
    return sorted((pair for pair in pairs if pair.flip), key=lambda pair: -abs(pair.difference))


def outcome(preference: float) -> Outcome:
    """Against the baseline, as alpaca_eval counts wins: above 1.5, below, or equal to it."""
    return "win" if preference > DRAW else "loss" if preference < DRAW else "draw"


# What stand-alone scoring comes to: one annotation file in numbers, and two of them compared over their prompts.


class Score(Frozen):
    """One model against one baseline under one judge."""

    source: str  # the file
    sha256: str  # of its content
    generator: str | None  # None: the file holds none or several
    baseline: str | None
    judge: str | None
    n: int  # prompts with a preference
    n_missing: int  # records without one
    wins: int
    losses: int
    draws: int
    win_rate: float | None
    win_rate_se: float | None  # 100 sd / sqrt(n)
    length_controlled_win_rate: float | None
    length_controlled_win_rate_se: float | None  # of the prompt bootstrap
    length_controlled_win_rate_interval: tuple[float, float] | None  # 95%, percentiles
    lc_method: str  # unlike methods are never compared
    calibration: str | None  # its fingerprint; nor are unlike calibrations
    reason: str | None  # why a win rate, or its standard error, is None
    mean_length: float | None  # characters
    baseline_mean_length: float | None
    integrity: Integrity


class Difference(Frozen):
    """A minus B on one metric over the same prompts, by the paired prompt bootstrap."""

    metric: Literal["length_controlled_win_rate", "win_rate"]
    label: str
    a: float | None
    b: float | None
    estimate: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    confidence: float
    p_value: float | None  # two-sided
    undefined: int  # draws without a value
    reason: str | None  # why there is no estimate, no interval or no p


class FileComparison(Frozen):
    """A and B compared, prompt by prompt."""

    a: Score  # over the compared prompts; its integrity is the whole file's
    b: Score
    differences: list[Difference]  # LC, then WR
    counts: PromptCounts
    only_a: int  # prompts of A alone, left out at the user's request
    only_b: int
    unjudged: int  # common prompts without a preference on one side or both
    replicates: int
    seed: int

    @property
    def headline(self) -> Difference:
        """LC where it is defined for both, else WR."""
        return next((each for each in self.differences if each.estimate is not None), self.differences[-1])
