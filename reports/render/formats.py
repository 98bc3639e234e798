"""Numbers as a reader sees them. Rounding happens here and nowhere else."""

from __future__ import annotations

import math

from analysis.document import Results
from analysis.results.model import Comparison, Interval, Metric, Value
from reports.render.cells import ArmName, Missing, Shown
from reports.render.text import plural, shorten

MINUS = "\u2212"
SD_REASON = "SD needs at least 2 seeds"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def decimal(value: float, decimals: int, *, signed: bool = False) -> str:
    """A finite number with a real minus sign; what rounds to zero has no sign, what is huge is scientific."""
    text = f"{abs(value):.{decimals}f}" if abs(value) < 1e7 else f"{abs(value):.2e}"
    if not text.strip("0."):
        return text
    return (MINUS if value < 0 else "+" if signed else "") + text


def number(value: float | None, decimals: int, *, signed: bool = False, reason: str = "no value") -> Shown:
    """A number, or a dash that says why there is none."""
    if value is None:
        return Missing(reason)
    if not math.isfinite(value):
        return Missing("the value is not a finite number")
    return decimal(value, decimals, signed=signed)


def measure(value: float | None, metric: Metric, *, signed: bool = False, reason: str = "no value") -> Shown:
    """A metric's value without its unit, in the metric's decimals."""
    return number(value, metric.decimals, signed=signed, reason=reason)


def mean_sd(mean: float | None, sd: float | None, n: int, metric: Metric, *, signed: bool = False) -> Shown:
    """Mean ± SD (n), each part undefined on its own."""
    if mean is None:
        return Missing("no run has a value" if not signed else "no complete pair of runs")
    spread = measure(sd, metric, reason=SD_REASON)
    return (measure(mean, metric, signed=signed), " ± ", spread, f" ({n})")


def level(confidence: float) -> str:
    """A confidence level, e.g. "95%", "96.1%"; never rounded up to certainty."""
    if 0.9995 <= confidence < 1:
        return "> 99.9%"
    return f"{100 * confidence:.1f}".removesuffix(".0") + "%"


def interval(found: Interval | None, decimals: int, *, reason: str = "no difference is defined") -> Shown:
    """The two ends of an interval, or why there is none."""
    if found is None:
        return Missing(reason)
    if found.low is None or found.high is None or math.isnan(found.low) or math.isnan(found.high):
        return Missing(found.reason or "no interval was given")
    low, high = (_end(end, decimals) for end in (found.low, found.high))
    return f"[{low}, {high}]"


def _end(value: float, decimals: int) -> str:
    if math.isinf(value):
        return MINUS + "∞" if value < 0 else "∞"
    return decimal(value, decimals, signed=True)


def p_value(p: float, alpha: float | None = None) -> str:
    """A p-value in a sentence: "p = .031", "p < .001", with more digits where rounding would cross alpha."""
    if p < 0.001:
        return "p < .001"
    if p >= 0.9995:
        return "p = 1" if p == 1 else "p > .999"
    digits = 3
    # .0496 must not read as .050 beside an alpha of .05, nor .0504.
    while alpha is not None and p != alpha and digits < 9 and round(p, digits) == round(alpha, digits):
        digits += 1
    return "p = " + f"{p:.{digits}f}".removeprefix("0")


def exact_p(p: float) -> str:
    """All of a p-value's leading digits, e.g. ".03125", "1.9 × 10⁻⁶"."""
    if p >= 0.001:
        return f"{p:.6f}".rstrip("0").rstrip(".").removeprefix("0")
    if p <= 0:
        return "below 10⁻³⁰⁰"
    mantissa, exponent = f"{p:.1e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def count(value: float) -> str:
    """A rank sum or another count that may end in a half."""
    return f"{value:.1f}".removesuffix(".0")


def duration(seconds: float | None) -> Shown:
    """A wall time, e.g. "41 s", "12 min 03 s", "3 h 20 min"."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return Missing("no wall time was recorded")
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def setting_value(value: Value) -> str:
    """A hyperparameter as one would write it in the sweep."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case _:
            return shorten(str(value), 200)


def with_unit(text: Shown, metric: Metric) -> Shown:
    """A shown value followed by the metric's unit; a missing value stays alone."""
    return (text, " " + metric.unit) if metric.unit and not isinstance(text, Missing) else text


def titled(metric: Metric) -> str:
    """A metric's label with its unit in brackets."""
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def seeds_phrase(seeds: list[int]) -> str:
    """How many seeds, and which."""
    return f"{plural(len(seeds), 'seed')}: {shorten(', '.join(map(str, seeds)), 200)}"


# Finding things in a `Results`: metrics by name, arms in the order they are shown, comparisons.

# Colours and dashes that the style sheet tells apart; further arms start over.
ARM_STYLES = 6


def metric_named(results: Results, name: str) -> Metric:
    """The metric of that name; a plain one when the results do not describe it."""
    for metric in results.metrics:
        if metric.name == name:
            return metric
    return Metric(name=name, label=name, unit="", decimals=3, higher_is_better=None)


def arms_in_order(results: Results) -> list[str]:
    """Baseline first, candidate second, then the other arms as they were declared."""
    declared = [results.declared.baseline, results.declared.candidate]
    return list(dict.fromkeys([*declared, *results.arms]))


def arm_style(results: Results, arm: str) -> int:
    """The number of the arm's style class."""
    order = arms_in_order(results)
    return order.index(arm) % ARM_STYLES if arm in order else ARM_STYLES - 1


def arm_name(results: Results, arm: str) -> ArmName:
    """The arm's name, with its mark."""
    return ArmName(arm, arm_style(results, arm))


def reference_name(results: Results) -> str:
    """What answers were judged against."""
    return results.evaluation.baseline if results.evaluation else "not recorded"


def primary_comparison(results: Results) -> Comparison | None:
    """The comparison on the declared primary metric."""
    found = (each for each in results.comparisons if each.metric == results.declared.primary)
    return next(found, None)


def is_confirmatory(results: Results) -> bool:
    """Whether the primary comparison was declared before the results and has not changed since."""
    primary = primary_comparison(results)
    return primary is not None and primary.confirmatory and not results.declaration_changed
