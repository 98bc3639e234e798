"""Numbers as a reader sees them. Rounding happens here and nowhere else."""

from __future__ import annotations

import math

from analysis.results import Interval, Metric, Value
from reports.shown import Missing, Shown
from reports.text import plural, shorten

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
