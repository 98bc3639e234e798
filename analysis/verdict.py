"""The verdict: one sentence that names estimate, interval, p, unit and n."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from analysis.equivalence import within_margin
from analysis.intervals import hodges_lehmann
from analysis.results import Comparison, Declared, Interval, Metric, SignedRank

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

    In this order: no data, "untestable"; p <= alpha, "better" or "worse" for the candidate; every difference
    exactly 0, "inconclusive"; the Hodges-Lehmann interval at 1 - 2 alpha within +-rope, "equivalent" (two
    one-sided tests); no outcome could have reached alpha, "untestable"; else "inconclusive". A significant
    difference within +-rope stays "better" or "worse", since that test was declared, and the sentence says
    that it is practically equivalent; it says so too where the crossed test of settings and seeds does not reject.

    Args:
        comparison: the primary comparison.
        declared: arms, alpha, direction and rope (in the metric's unit).
        metric: the primary metric; `higher_is_better` must not be None.
        diverged: number of diverged runs per arm.

    Raises:
        ValueError: neither direction of the metric is better.

    Source of the equivalence test: Schuirmann (1987), J. Pharmacokinet. Biopharm. 15:657.
    """
    if metric.higher_is_better is None:
        raise ValueError(
            f"primary {metric.name!r}: neither direction is better, so it cannot decide a comparison"
        )
    a, b = declared.candidate, declared.baseline
    caveats = _missing(comparison, declared, diverged or {}) + _status(comparison)
    if comparison.test is None or comparison.estimate is None:
        return Verdict(
            f"Not testable: no setting has a complete pair of {a} and {b} on {metric.label}{caveats}.",
            "untestable",
        )
    test, estimate = comparison.test, comparison.estimate
    amount = format_amount(estimate.estimate, metric, signed=True)
    evidence = f"{amount} ({_interval(estimate, metric)}), {_test(test, comparison, declared.alpha)}"
    rope = format_amount(declared.rope, metric)

    means = [k.mean for k in comparison.differences if k.mean is not None]
    level = declared.alpha / comparison.family
    narrow = hodges_lehmann(means, 1 - 2 * level) if level < 0.5 else None
    within = narrow is not None and declared.rope > 0 and within_margin(narrow, declared.rope)
    shown = f"{_interval(narrow, metric)} within ±{rope}" if narrow is not None else ""

    p = test.p_value if comparison.adjusted_p is None else comparison.adjusted_p
    if p <= declared.alpha:
        higher = test.alternative == "greater" or (
            test.alternative == "two-sided" and test.w_plus > test.w_minus
        )
        word = "higher" if higher else "lower"
        guard = _guard(comparison, level)
        also = f"; the difference is practically equivalent ({shown})" if within else ""
        return Verdict(
            f"{a} scores {word} than {b} on {metric.label}: {evidence}{also}{guard}{caveats}.",
            "better" if higher == metric.higher_is_better else "worse",
        )
    if not any(means):
        return Verdict(
            f"The evaluation does not tell {a} and {b} apart: every difference on {metric.label} is exactly 0 "
            f"({_test(test, comparison, declared.alpha)}){caveats}.",
            "inconclusive",
        )
    if within:
        return Verdict(
            f"{a} and {b} are practically equivalent on {metric.label} ({shown}): {evidence}{caveats}.",
            "equivalent",
        )
    if test.smallest_p * comparison.family > declared.alpha:  # Holm's first step
        shared = "" if comparison.family == 1 else f" / {comparison.family} candidates"
        zeros = f" ({test.zeros} of them without a difference)" if test.zeros else ""
        return Verdict(
            f"Not testable: with {_count(test.n, 'setting')}{zeros} the smallest attainable {_sided(test)}p "
            f"is {format_p(test.smallest_p)[2:]}, above alpha{shared} = {_no_zero(f'{level:g}')}; "
            f"{a} minus {b} on {metric.label}: {evidence}{caveats}.",
            "untestable",
        )
    question = {
        "two-sided": f"decide whether {a} or {b} scores higher on {metric.label}",
        "greater": f"show that {a} scores higher than {b} on {metric.label}",
        "less": f"show that {a} scores lower than {b} on {metric.label}",
    }[test.alternative]
    return Verdict(
        f"The data do not {question}: {evidence}; equivalence within ±{rope} is not shown either{caveats}.",
        "inconclusive",
    )


def format_p(p_value: float, *, alpha: float = 0.05) -> str:
    """A p-value in APA style: "= .031", "< .001", "= 1"; never 0, never rounded onto alpha."""
    if p_value < 0.001:
        return "< .001"
    digits = 3
    while round(p_value, digits) == alpha != p_value and digits < 9:
        digits += 1
    text = f"{p_value:.{digits}f}"
    return "= 1" if float(text) == 1 else f"= {_no_zero(text)}"


def format_amount(value: float, metric: Metric, *, signed: bool = False, unit: bool = True) -> str:
    """A value of the metric with its digits and unit, e.g. "+2.1 points"; zero has no minus."""
    number = round(value, metric.decimals) + 0.0  # -0.0 + 0.0 is 0.0
    text = f"{number:{'+' if signed else ''}.{metric.decimals}f}".replace("-", "−")  # a minus, not a hyphen
    return f"{text} {metric.unit}".rstrip() if unit else text


def _interval(interval: Interval, metric: Metric) -> str:
    level = f"{100 * interval.confidence:g}%"
    if interval.low is None or interval.high is None or interval.achieved is None:
        return interval.reason or f"no {level} interval"
    low, high = (format_amount(x, metric, unit=False) for x in (interval.low, interval.high))
    return f"{level} CI {low} to {high}, exact {100 * interval.achieved:.1f}%"


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
    why = f" ({', '.join(causes)})" if causes else ""
    n = len(comparison.missing_pairs)
    return f"; {n} of {planned} pairs {'is' if n == 1 else 'are'} missing{why}"


def _status(comparison: Comparison) -> str:
    return "" if comparison.confirmatory else "; exploratory, since the declaration changed after launch"


def _guard(comparison: Comparison, alpha: float) -> str:
    """What the crossed test says against a headline test that rejects: its settings may share the luck of the seeds."""
    if comparison.inference is None:
        return ""
    crossed = comparison.inference.crossed
    if crossed.p_value is None:
        return f"; no test says whether other seeds would show it ({crossed.reason})"
    if crossed.p_value <= alpha:
        return ""
    return (
        f"; with the seeds taken as a sample too, it is not established (crossed test of {crossed.settings} "
        f"settings and {crossed.seeds} seeds, p {format_p(crossed.p_value, alpha=alpha)})"
    )


def _sided(test: SignedRank) -> str:
    return "two-sided " if test.alternative == "two-sided" else "one-sided "


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _no_zero(text: str) -> str:
    return text.removeprefix("0")
