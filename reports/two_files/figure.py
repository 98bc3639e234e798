"""Two models' differences with their intervals, drawn: one row per metric."""

from __future__ import annotations

from markupsafe import Markup

from analysis.prompts.paired import Difference, FileComparison
from reports.figures import svg
from reports.figures.scale import Scale, drawable, fit, tick_label
from reports.render.formats import decimal, level
from reports.render.text import shorten

WIDTH = 920.0
LEFT, RIGHT = 190.0, 96.0  # room for the metric's name and the row's number
TOP, ROW = 44.0, 46.0


def differences_figure(compared: FileComparison) -> Markup | None:
    """Zero, and for each metric the difference with its interval; None where no difference is defined."""
    rows = [each for each in compared.differences if each.estimate is not None and drawable(each.estimate)]
    if not rows:
        return None
    ends = [end for each in rows for end in (each.estimate, each.low, each.high) if drawable(end)]
    x = fit([0.0, *(end for end in ends if end is not None)], LEFT + 12, WIDTH - RIGHT - 12)
    foot = TOP + ROW * len(rows)
    content = [
        *_frame(compared, x, foot),
        *(mark for index, each in enumerate(rows) for mark in _row(each, x, TOP + ROW * (index + 0.5))),
    ]
    described = "; ".join(f"{each.label} {decimal(each.estimate or 0, 1, signed=True)}" for each in rows)
    description = f"A minus B in points: {described}. The numbers are in the table."
    return svg.picture(
        "figure-compared", "Differences with intervals", description, WIDTH, foot + 44, content
    )


def _frame(compared: FileComparison, x: Scale, foot: float) -> list[Markup]:
    marks = []
    for tick in x.ticks(7):
        marks.append(svg.line(x(tick), TOP - 8, x(tick), foot, "grid"))
        shown = ("+" if tick > 0 else "") + tick_label(tick)
        marks.append(svg.label(x(tick), foot + 17, shown, "tick", "middle"))
    zero = x(0)
    marks.append(svg.line(zero, TOP - 8, zero, foot, "zero"))
    a, b = (
        shorten(score.generator or letter, 24) for score, letter in ((compared.a, "A"), (compared.b, "B"))
    )
    # A side without room for its words is told by the axis alone.
    if zero - x.start > 130:
        marks.append(svg.label(zero - 12, TOP - 18, f"← B better: {b}", "side", "end"))
    if x.end - zero > 130:
        marks.append(svg.label(zero + 12, TOP - 18, f"A better: {a} →", "side"))
    middle = (x.start + x.end) / 2
    return [*marks, svg.label(middle, foot + 36, "A minus B (points)", "axis", "middle")]


def _row(each: Difference, x: Scale, y: float) -> list[Markup]:
    assert each.estimate is not None
    marks = [svg.label(0, y - 3, each.label, "row strong")]
    if each.low is not None and each.high is not None and drawable(each.low) and drawable(each.high):
        ends = f"{decimal(each.low, 1, signed=True)} to {decimal(each.high, 1, signed=True)}"
        marks.append(svg.label(0, y + 13, f"{level(each.confidence)}: {ends}", "muted"))
        marks.append(svg.line(x(each.low), y, x(each.high), y, "interval"))
        marks += [svg.line(x(end), y - 7, x(end), y + 7, "interval") for end in (each.low, each.high)]
    marks.append(svg.diamond(x(each.estimate), y, 9, "estimate"))
    text = decimal(each.estimate, 1, signed=True)
    return [*marks, svg.label(WIDTH, y + 4.5, text, "number strong", "end")]
