"""The verdict: one sentence that names estimate, interval, p, unit and n, and what they do not establish."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from analysis.inference.equivalence import within_margin
from analysis.inference.intervals import hodges_lehmann
from analysis.inference.three_way import NO_PROMPT_DATA, out_of_reach
from analysis.results.model import Comparison, Declared, GeneralizationTest, Interval, Metric, SignedRank
from analysis.results.words import _no_zero, format_amount, format_p

VerdictKind: TypeAlias = Literal["better", "worse", "inconclusive", "equivalent", "untestable"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the data say about the primary metric, in one sentence and one word."""

    sentence: str
    kind: VerdictKind


def make_verdict(
    comparison: Comparison, *, declared: Declared, metric: Metric, diverged: Mapping[str, int] | None = None
) -> Verdict:
    """Say what the primary comparison shows.

    The declared test takes seeds and prompts as they are, and rejects up to half the time when seeds share an effect.
    So nothing is called better, worse or equivalent by it alone: the guard (`guard_test`), for which settings, seeds
    and, where they are known, prompts are samples, must say the same. That holds the level of both wherever one does.

    In this order: no data, "untestable"; p <= alpha and the guard's too, in one direction, "better" or "worse" for the
    candidate, and without the guard "inconclusive"; every difference exactly 0, "inconclusive"; the Hodges-Lehmann
    interval at 1 - 2 alpha within +-rope (two one-sided tests) and the guard's too, "equivalent"; no outcome could
    have reached alpha, "untestable"; else "inconclusive". A difference that is established within +-rope stays
    "better" or "worse", since that test was declared, and the sentence says that it is practically equivalent. With
    one seed there is no guard, so that no verdict is better than "inconclusive".

    Args:
        comparison: the primary comparison.
        declared: arms, alpha, direction and rope (in the metric's unit).
        metric: the primary metric; `higher_is_better` must not be None.
        diverged: number of diverged runs per arm.

    Raises:
        ValueError: neither direction of the metric is better.

    Source: intersection of tests: Berger (1982), Technometrics 24:295; equivalence: Schuirmann (1987), J.
    Pharmacokinet. Biopharm. 15:657. Level, coverage and power by simulation: bench/results/validity.md.
    """
    if metric.higher_is_better is None:
        raise ValueError(
            f"primary {metric.name!r}: neither direction is better, so it cannot decide a comparison"
        )
    a, b, label = declared.candidate, declared.baseline, metric.label
    caveats = _missing(comparison, declared, diverged or {}) + _status(comparison, declared)
    if comparison.test is None or comparison.estimate is None:
        return Verdict(
            f"Not testable: no setting has a complete pair of {a} and {b} on {label}{caveats}.",
            "untestable",
        )
    test, estimate = comparison.test, comparison.estimate
    amount = format_amount(estimate.estimate, metric, signed=True)
    evidence = f"{amount} ({_interval(estimate, metric)}), {_test(test, comparison, declared.alpha)}"
    rope = format_amount(declared.rope, metric)
    guard = None if comparison.inference is None else comparison.inference.guard
    known = "" if guard is None or guard.interval is None else f"; {_guard(guard, metric, declared.alpha)}"

    means = [k.mean for k in comparison.differences if k.mean is not None]
    level = declared.alpha / comparison.family
    narrow = hodges_lehmann(means, 1 - 2 * level) if level < 0.5 else None
    within = narrow is not None and declared.rope > 0 and within_margin(narrow, declared.rope)
    shown = f"{_interval(narrow, metric)} within ±{rope}" if narrow is not None else ""
    established = bool(within) and guard is not None and _is_within(guard, declared.rope)

    p = test.p_value if comparison.adjusted_p is None else comparison.adjusted_p
    if p <= declared.alpha:
        higher = test.alternative == "greater" or (
            test.alternative == "two-sided" and test.w_plus > test.w_minus
        )
        if guard is None or not _agrees(guard, higher, declared.alpha):
            favoured = a if higher == metric.higher_is_better else b
            return Verdict(
                f"Not established: {_at_these(comparison)} the settings favour {favoured} on {label}: {evidence}; "
                f"{_doubt(comparison, guard, metric, declared.alpha)}{caveats}.",
                "inconclusive",
            )
        also = f"; the difference is practically equivalent ({shown})" if established else ""
        return Verdict(
            f"{a} scores {'higher' if higher else 'lower'} than {b} on {label}: {evidence}{known}{also}{caveats}.",
            "better" if higher == metric.higher_is_better else "worse",
        )
    if not any(means):
        return Verdict(
            f"The evaluation does not tell {a} and {b} apart: every difference on {label} is exactly 0 "
            f"({_test(test, comparison, declared.alpha)}){caveats}.",
            "inconclusive",
        )
    if within and established:
        return Verdict(
            f"{a} and {b} are practically equivalent on {label} ({shown}): {evidence}{known}{caveats}.",
            "equivalent",
        )
    if within:
        return Verdict(
            f"Not established: {_at_these(comparison)} {a} and {b} are practically equivalent on {label} ({shown}): "
            f"{evidence}; {_doubt(comparison, guard, metric, declared.alpha)}{caveats}.",
            "inconclusive",
        )
    if test.smallest_p * comparison.family > declared.alpha:  # Holm's first step
        shared = "" if comparison.family == 1 else f" / {comparison.family} candidates"
        zeros = f" ({test.zeros} of them without a difference)" if test.zeros else ""
        return Verdict(
            f"Not testable: with {_count(test.n, 'setting')}{zeros} the smallest attainable {_sided(test)}p "
            f"is {format_p(test.smallest_p)[2:]}, above alpha{shared} = {_no_zero(f'{level:g}')}; "
            f"{a} minus {b} on {label}: {evidence}{known}{caveats}.",
            "untestable",
        )
    question = {
        "two-sided": f"decide whether {a} or {b} scores higher on {label}",
        "greater": f"show that {a} scores higher than {b} on {label}",
        "less": f"show that {a} scores lower than {b} on {label}",
    }[test.alternative]
    return Verdict(
        f"The data do not {question}: {evidence}{known}"
        + (f"; equivalence within ±{rope} is not shown either" if declared.rope > 0 else "")
        + f"{caveats}.",
        "inconclusive",
    )


def _interval(interval: Interval, metric: Metric) -> str:
    level = f"{100 * interval.confidence:g}%"
    if interval.low is None or interval.high is None or interval.achieved is None:
        return interval.reason or f"no {level} interval"
    low, high = (format_amount(x, metric, unit=False) for x in (interval.low, interval.high))
    achieved = f"{100 * interval.achieved:.1f}%"
    same = (
        achieved == f"{100 * interval.confidence:.1f}%"
    )  # of many settings; it may then be an approximation, too
    return f"{level} CI {low} to {high}" + ("" if same else f", exact {achieved}")


def _test(test: SignedRank, comparison: Comparison, alpha: float) -> str:
    seeds = sorted({k.n for k in comparison.differences if k.n})
    if seeds == [1]:
        averaged = "with 1 seed each"
    elif len(seeds) == 1:
        averaged = f"averaged over {seeds[0]} seeds"
    else:
        averaged = f"averaged over {seeds[0]} to {seeds[-1]} seeds"
    planned = len(comparison.differences)
    adjusted = ""
    if comparison.adjusted_p is not None:
        p = format_p(comparison.adjusted_p, alpha=alpha)
        adjusted = f" (Holm over {comparison.family} candidates: p {p})"
    settings = _count(test.n, "setting") if test.n == planned else f"{test.n} of {planned} settings"
    return (
        f"Wilcoxon signed-rank over {settings} {averaged}, "
        f"{'' if test.alternative == 'two-sided' else 'one-sided '}p {format_p(test.p_value, alpha=alpha)}{adjusted}"
    )


def _missing(comparison: Comparison, declared: Declared, diverged: Mapping[str, int]) -> str:
    if not comparison.missing_pairs:
        return ""
    planned = sum(len(k.values) for k in comparison.differences)
    causes = [
        f"{_count(diverged[arm], f'{arm} run')} diverged"
        for arm in (declared.baseline, declared.candidate)
        if diverged.get(arm)
    ]
    # What a run would have been had it not diverged, nothing tells.
    why = f" ({', '.join(causes)}; this is about those that did not)" if causes else ""
    n = len(comparison.missing_pairs)
    return f"; {n} of {planned} pairs {'is' if n == 1 else 'are'} missing{why}"


def _status(comparison: Comparison, declared: Declared) -> str:
    if comparison.confirmatory:
        return ""
    why = (
        "the declaration changed after launch"
        if declared.preregistered
        else "nothing was declared before these results"
    )
    return f"; exploratory, since {why}"


def _agrees(guard: GeneralizationTest, higher: bool, alpha: float) -> bool:
    """Whether the guard rejects too, in the direction of the headline test."""
    p = guard.p_value if guard.adjusted_p is None else guard.adjusted_p
    return p is not None and p <= alpha and guard.mean is not None and (guard.mean > 0) == higher


def _is_within(guard: GeneralizationTest, rope: float) -> bool:
    return guard.narrow is not None and bool(within_margin(guard.narrow, rope))


def _guard(guard: GeneralizationTest, metric: Metric, alpha: float) -> str:
    """Mean, interval and p of the guard, and what they speak of."""
    if guard.interval is None or guard.p_value is None or guard.mean is None:
        return guard.reason or "no test"
    adjusted = ""
    if guard.adjusted_p is not None:
        adjusted = f" (Holm: p {format_p(guard.adjusted_p, alpha=alpha)})"
    sided = "" if guard.alternative == "two-sided" else "one-sided "
    interval = guard.interval
    low, high = (format_amount(x or 0.0, metric, unit=False) for x in (interval.low, interval.high))
    return (
        f"with {_samples(guard)} as samples {format_amount(guard.mean, metric, signed=True, unit=False)} "
        f"({100 * interval.confidence:g}% CI {low} to {high}), "
        f"{sided}p {format_p(guard.p_value, alpha=alpha)}{adjusted}{_of_prompts(guard, metric, alpha)}"
    )


def _samples(guard: GeneralizationTest) -> str:
    return (
        "settings and seeds"
        if guard.prompt is None
        else f"settings, seeds and {guard.prompt.prompts} prompts"
    )


def _of_prompts(guard: GeneralizationTest, metric: Metric, alpha: float) -> str:
    """What p does not say of other prompts, and what no method could."""
    part = guard.prompt
    if part is None:
        # As they come in a table of runs, a share of the prompts in every difference is an effect.
        alone = (
            " (no method can tell of others from runs alone)" if guard.prompt_reason == NO_PROMPT_DATA else ""
        )
        return f", for these prompts only{alone}"
    if part.max_prompt_effect is None or guard.mean is None:
        return ""
    least = out_of_reach(part.prompts, part.max_prompt_effect, alpha)
    if abs(guard.mean) >= least:
        return ""
    few = f"with {part.prompts} prompts no method can be relied on to find less than {format_amount(least, metric)}"
    return f" ({few})"


def _at_these(comparison: Comparison) -> str:
    return "at this one seed" if _planned_seeds(comparison) == 1 else "at these seeds and prompts"


def _doubt(comparison: Comparison, guard: GeneralizationTest | None, metric: Metric, alpha: float) -> str:
    """Why the headline alone does not do."""
    if _planned_seeds(comparison) == 1:
        return "no test can say whether other seeds would show it: add seeds"
    if guard is None or guard.interval is None:
        return f"no test can say whether other seeds would show it ({'no guard' if guard is None else guard.reason})"
    others = "other seeds" if guard.prompt is None else "other seeds or prompts"
    return f"{_guard(guard, metric, alpha)}: {others} may not show it"


def _planned_seeds(comparison: Comparison) -> int:
    return len(comparison.differences[0].values)


def _sided(test: SignedRank) -> str:
    return "two-sided " if test.alternative == "two-sided" else "one-sided "


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
