"""Numbers in sentences: p-values in APA style, amounts with their unit."""

from __future__ import annotations

from analysis.results.model import Metric


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


def _no_zero(text: str) -> str:
    return text.removeprefix("0")
