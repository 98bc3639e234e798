"""The verdict: one sentence that names estimate, interval, p, unit and n, and what they do not establish."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from analysis.inference.equivalence import within_margin
from analysis.inference.generalization import NO_PROMPT_DATA
from analysis.inference.intervals import hodges_lehmann
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

    The declared test conditions on seeds and prompts, and rejects up to half the time when seeds share an effect. So
    it never decides alone: the generalization test, for which settings, seeds and, where they are known, prompts are
    samples, must agree.

    In this order: no data, "untestable"; both tests reject in one direction, "better" or "worse"; the declared test
    alone, "inconclusive"; every difference exactly 0, "inconclusive"; both intervals at 1 - 2 alpha within +-rope,
    "equivalent"; no outcome could reach alpha, "untestable"; else "inconclusive". With one seed there is no
    generalization test, so that no verdict is better than "inconclusive".

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

    def verdict(kind: VerdictKind, *sentences: str) -> Verdict:
        return Verdict(" ".join(f"{each}." for each in [*sentences, *caveats] if each), kind)

    if comparison.test is None or comparison.estimate is None:
        return verdict(
            "untestable", f"Not testable: no setting has a complete pair of {a} and {b} on {label}"
        )
    test, estimate = comparison.test, comparison.estimate
    amount = format_amount(estimate.estimate, metric, signed=True)
    evidence = f"{amount} ({_interval(estimate, metric)}), {_test(test, comparison, declared.alpha)}"
    rope = format_amount(declared.rope, metric)
    general = None if comparison.inference is None else comparison.inference.generalization
    wider = [] if general is None or general.interval is None else _wider(general, metric, declared.alpha)

    means = [k.mean for k in comparison.differences if k.mean is not None]
    level = declared.alpha / comparison.family
    narrow = hodges_lehmann(means, 1 - 2 * level) if level < 0.5 else None
    within = narrow is not None and declared.rope > 0 and within_margin(narrow, declared.rope)
    shown = f"{_interval(narrow, metric)} within ±{rope}" if narrow is not None else ""
    established = bool(within) and general is not None and _is_within(general, declared.rope)
    doubt = _doubt(comparison, general, metric, declared.alpha)

    p = test.p_value if comparison.adjusted_p is None else comparison.adjusted_p
    if p <= declared.alpha:
        higher = test.alternative == "greater" or (
            test.alternative == "two-sided" and test.w_plus > test.w_minus
        )
        if general is None or not _agrees(general, higher, declared.alpha):
            favoured = a if higher == metric.higher_is_better else b
            return verdict(
                "inconclusive",
                f"Not established: {_at_these(comparison)} the settings favour {favoured} on {label}: {evidence}",
                *doubt,
            )
        return verdict(
            "better" if higher == metric.higher_is_better else "worse",
            f"{a} scores {'higher' if higher else 'lower'} than {b} on {label}: {evidence}",
            *wider,
            f"The difference is practically equivalent to 0 ({shown})" if established else "",
        )
    if not any(means):
        return verdict(
            "inconclusive",
            f"{a} and {b} scored identically on {label} at every setting ({_test(test, comparison, declared.alpha)})",
        )
    if within:
        equivalent = f"{a} and {b} are practically equivalent on {label} ({shown}): {evidence}"
        if established:
            return verdict("equivalent", equivalent, *wider)
        return verdict("inconclusive", f"Not established: {_at_these(comparison)} {equivalent}", *doubt)
    if test.smallest_p * comparison.family > declared.alpha:  # Holm's first step
        shared = "" if comparison.family == 1 else f" / {comparison.family} candidates"
        zeros = f" ({test.zeros} of them without a difference)" if test.zeros else ""
        return verdict(
            "untestable",
            f"Not testable: with {_count(test.n, 'setting')}{zeros} the smallest attainable {_sided(test)}p "
            f"is {format_p(test.smallest_p)[2:]}, above alpha{shared} = {_no_zero(f'{level:g}')}",
            f"{a} minus {b} on {label}: {evidence}",
            *wider,
        )
    return verdict(
        "inconclusive",
        {
            "two-sided": "Undecided",
            "greater": f"Undecided: the data do not show that {a} scores higher than {b}",
            "less": f"Undecided: the data do not show that {a} scores lower than {b}",
        }[test.alternative],
        f"{a} minus {b} on {label}: {evidence}",
        *wider,
        f"Equivalence (±{rope}) is not established" if declared.rope > 0 else "",
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


def _missing(comparison: Comparison, declared: Declared, diverged: Mapping[str, int]) -> list[str]:
    if not comparison.missing_pairs:
        return []
    planned = sum(len(k.values) for k in comparison.differences)
    causes = [
        f"{_count(diverged[arm], f'{arm} run')} diverged"
        for arm in (declared.baseline, declared.candidate)
        if diverged.get(arm)
    ]
    # What a run would have been had it not diverged, nothing tells.
    why = f" ({', '.join(causes)}; the result describes the runs that did not diverge)" if causes else ""
    n = len(comparison.missing_pairs)
    return [f"{n} of {planned} pairs {'is' if n == 1 else 'are'} missing{why}"]


def _status(comparison: Comparison, declared: Declared) -> list[str]:
    if comparison.confirmatory:
        return []
    if declared.preregistered:
        return ["Exploratory: the declaration changed after launch"]
    return ["Exploratory: nothing was declared before these results"]


def _agrees(general: GeneralizationTest, higher: bool, alpha: float) -> bool:
    """Whether the generalization test rejects too, in the direction of the declared test."""
    p = general.p_value if general.adjusted_p is None else general.adjusted_p
    return p is not None and p <= alpha and general.mean is not None and (general.mean > 0) == higher


def _is_within(general: GeneralizationTest, rope: float) -> bool:
    return general.narrow is not None and bool(within_margin(general.narrow, rope))


def _wider(general: GeneralizationTest, metric: Metric, alpha: float) -> list[str]:
    """Mean, interval and p of the generalization test, and what they say nothing about."""
    if general.interval is None or general.p_value is None or general.mean is None:
        return [general.reason or "No generalization test"]
    adjusted = ""
    if general.adjusted_p is not None:
        adjusted = f" (Holm: p {format_p(general.adjusted_p, alpha=alpha)})"
    sided = "" if general.alternative == "two-sided" else "one-sided "
    interval = general.interval
    low, high = (format_amount(x or 0.0, metric, unit=False) for x in (interval.low, interval.high))
    prompts = general.prompt and general.prompt.prompts
    samples = f"settings, seeds and {prompts} prompts" if prompts else "settings and seeds"
    found = [
        f"With {samples} as samples: {format_amount(general.mean, metric, signed=True, unit=False)} "
        f"({100 * interval.confidence:g}% CI {low} to {high}), "
        f"{sided}p {format_p(general.p_value, alpha=alpha)}{adjusted}"
    ]
    if general.prompt is None:
        # In a table of runs, what the prompts share looks like an effect.
        alone = general.prompt_reason == NO_PROMPT_DATA
        found.append(
            "Run-level data cannot say whether this holds for other prompts"
            if alone
            else "This holds for these prompts only"
        )
    return found


def _at_these(comparison: Comparison) -> str:
    return "at this one seed" if _planned_seeds(comparison) == 1 else "at these seeds and prompts"


def _doubt(
    comparison: Comparison, general: GeneralizationTest | None, metric: Metric, alpha: float
) -> list[str]:
    """Why the declared test alone does not decide."""
    if _planned_seeds(comparison) == 1:
        return ["One seed cannot show whether other seeds agree: add seeds"]
    if general is None or general.interval is None:
        why = "no generalization test" if general is None else general.reason
        return [f"Whether other seeds agree is unknown ({why})"]
    others = "seeds" if general.prompt is None else "seeds or prompts"
    return [*_wider(general, metric, alpha), f"Other {others} may not show the difference"]


def _planned_seeds(comparison: Comparison) -> int:
    return len(comparison.differences[0].values)


def _sided(test: SignedRank) -> str:
    return "two-sided " if test.alternative == "two-sided" else "one-sided "


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
