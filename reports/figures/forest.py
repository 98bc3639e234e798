"""The paired differences, drawn: one row per setting, the estimate below them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from analysis.document import Results
from analysis.results.model import Comparison, Interval, Metric, PromptInterval, SettingDifference
from reports.figures import svg
from reports.figures.scale import Scale, drawable, fit, tick_label
from reports.render.cells import Missing
from reports.render.formats import decimal, interval, metric_named, primary_comparison
from reports.render.text import plural, shorten

WIDTH = 920.0
ROW = 30.0
TOP = 44.0
RIGHT = 96.0  # room for the row's number
MOST = 100  # rows; of more settings, those at even ranks of their difference


@dataclass(frozen=True)
class PrimaryFigure:
    """The section: the figure, and what its intervals over prompts are, or why there are none."""

    picture: Markup
    prompts: str
    rows: str  # which settings are drawn, where not all are


def primary_figure(results: Results) -> PrimaryFigure | None:
    """The figure of the declared comparison; None where there is none."""
    found = primary_comparison(results)
    if found is None:
        return None
    picture = differences_figure(results, found, metric_named(results, found.metric))
    return PrimaryFigure(picture, _said_of_prompts(results), _said_of_rows(found))


def _said_of_prompts(results: Results) -> str:
    level = results.prompt_level
    if level is None:
        reason = results.prompt_level_reason
        return f"No intervals over prompts: {reason}." if reason else ""
    lacking = sum(each.low is None for each in level.settings)
    without = f" {plural(lacking, 'setting')} without: too many draws have no value." if lacking else ""
    return (
        f"Thin bracket below: {level.confidence:.0%} interval of the setting's mean over other draws of the "
        f"{plural(level.prompts, 'prompt')}, the same for both arms, refitted in each of {level.replicates:,} "
        "(paired bootstrap). It holds the policies fixed and says nothing of other seeds, as the circles do of "
        f"seeds and not of prompts.{without}"
    )


def differences_figure(results: Results, comparison: Comparison, metric: Metric) -> Markup:
    """Per setting a dot per seed and a diamond at the mean; zero, the region of equivalence, the estimate."""
    rows = _rows(comparison)
    over_prompts = _over_prompts(results, comparison)
    left = min(300.0, 30 + 7.4 * max((len(each.setting) for each in rows), default=10))
    bottom = TOP + ROW * len(rows)
    foot = bottom + 64
    x = _axis(results, comparison, left + 12, WIDTH - RIGHT - 12)
    content = [
        *_frame(results, metric, x, left, bottom, foot),
        *(
            mark
            for index, each in enumerate(rows)
            for mark in (
                *_bracket(over_prompts.get(each.setting), metric, x, TOP + ROW * (index + 0.5) + 10),
                *_row(each, metric, x, TOP + ROW * (index + 0.5)),
            )
        ),
        svg.line(0, bottom + 5, WIDTH, bottom + 5, "rule"),
        *_estimate(comparison.estimate, metric, x, bottom + 34),
    ]
    candidate, baseline = results.declared.candidate, results.declared.baseline
    description = (
        f"{candidate} minus {baseline}, {metric.label}: {plural(len(rows), 'setting')}, "
        f"{comparison.won} won, {comparison.tied} tied, {comparison.lost} lost by the candidate. "
        "The numbers are in the table of means."
    )
    return svg.picture(
        "figure-differences", "Paired differences per setting", description, WIDTH, foot + 44, content
    )


def _rows(comparison: Comparison) -> list[SettingDifference]:
    """Every setting in the plan's order; of very many, some by size, so that their spread still shows."""
    if len(comparison.differences) <= MOST:
        return comparison.differences
    known = [each for each in comparison.differences if each.mean is not None and math.isfinite(each.mean)]
    ordered = sorted(known, key=lambda each: -(each.mean or 0.0))
    last = max(len(ordered) - 1, 0)
    places = dict.fromkeys(round(place * last / (MOST - 1)) for place in range(MOST))
    return [ordered[place] for place in places if place < len(ordered)]


def _said_of_rows(comparison: Comparison) -> str:
    total = len(comparison.differences)
    if total <= MOST:
        return ""
    return (
        f"Of {total:,} settings, {len(_rows(comparison))} at even ranks are drawn, the largest difference first; all: "
        "tables/differences.csv."
    )


def _over_prompts(results: Results, comparison: Comparison) -> dict[str, PromptInterval]:
    level = results.prompt_level
    if level is None or level.metric != comparison.metric:
        return {}
    return {each.setting: each for each in level.settings}


def _bracket(found: PromptInterval | None, metric: Metric, x: Scale, y: float) -> list[Markup]:
    """The interval over prompts: thin, with its ends turned up, below the seeds."""
    if found is None or found.low is None or found.high is None:
        return []
    if not (drawable(found.low) and drawable(found.high)):
        return []
    ends = " to ".join(decimal(end, metric.decimals, signed=True) for end in (found.low, found.high))
    low, high = x(found.low), x(found.high)
    tip = svg.element("title", f"over prompts: {ends}")
    d = svg.path([(low, y - 4), (low, y), (high, y), (high, y - 4)])
    return [svg.element("path", tip, d=d, class_="prompts")]


def _axis(results: Results, comparison: Comparison, start: float, end: float) -> Scale:
    rope = results.declared.rope
    values: list[float | None] = [0.0, -rope, rope]
    for each in _rows(comparison):
        values += [each.mean, *(pair.value for pair in each.values)]
    for found in _over_prompts(results, comparison).values():
        values += [found.low, found.high]
    if comparison.estimate is not None:
        values += [comparison.estimate.estimate, comparison.estimate.low, comparison.estimate.high]
    return fit([value for value in values if value is not None and drawable(value)], start, end)


def _frame(
    results: Results, metric: Metric, x: Scale, left: float, bottom: float, foot: float
) -> list[Markup]:
    rope, zero = results.declared.rope, x(0)
    marks = []
    if drawable(rope) and rope > 0:
        marks.append(
            svg.element(
                "rect", x=x(-rope), y=TOP - 8, width=x(rope) - x(-rope), height=foot - TOP + 8, class_="rope"
            )
        )
    for tick in x.ticks(7):
        marks.append(svg.line(x(tick), TOP - 8, x(tick), foot, "grid"))
        marks.append(svg.label(x(tick), foot + 17, _signed(tick), "tick", "middle"))
    marks.append(svg.line(zero, TOP - 8, zero, foot, "zero"))
    down, up = (
        (results.declared.candidate, results.declared.baseline)
        if metric.higher_is_better is False
        else (results.declared.baseline, results.declared.candidate)
    )
    word = "higher" if metric.higher_is_better is None else "better"
    marks.append(svg.label(zero - 12, TOP - 18, f"← {shorten(down, 24)} {word}", "side", "end"))
    marks.append(svg.label(zero + 12, TOP - 18, f"{shorten(up, 24)} {word} →", "side"))
    unit = f" ({metric.unit})" if metric.unit else ""
    marks.append(
        svg.label((x.start + x.end) / 2, foot + 36, f"Difference in {metric.label}{unit}", "axis", "middle")
    )
    return marks


def _name(setting: str, y: float) -> list[Markup]:
    """The setting in one line, or in two when it is long."""
    if len(setting) <= 40:
        return [svg.label(0, y + 4.5, setting, "row")]
    space = setting.rfind(" ", 0, 44)
    first = space if space > 0 else 44
    return [
        svg.label(0, y - 1.5, setting[:first], "row small"),
        svg.label(0, y + 11, shorten(setting[first:].strip(), 44), "row small"),
    ]


def _row(each: SettingDifference, metric: Metric, x: Scale, y: float) -> list[Markup]:
    marks = _name(each.setting, y)
    seeds = [
        (pair.seed, pair.value) for pair in each.values if pair.value is not None and drawable(pair.value)
    ]
    if len(seeds) > 1:
        ends = [value for _, value in seeds]
        marks.append(svg.line(x(min(ends)), y, x(max(ends)), y, "span"))
    for seed, value in seeds:
        tip = svg.element("title", f"seed {seed}: {decimal(value, metric.decimals, signed=True)}")
        marks.append(svg.element("circle", tip, cx=x(value), cy=y, r=4, class_="seed"))
    if each.mean is None or not drawable(each.mean):
        return [*marks, svg.label(WIDTH, y + 4.5, "no pair", "muted", "end")]
    marks.append(svg.diamond(x(each.mean), y, 6.5, "mean"))
    marks.append(svg.label(WIDTH, y + 4.5, decimal(each.mean, metric.decimals, signed=True), "number", "end"))
    return marks


def _estimate(found: Interval | None, metric: Metric, x: Scale, y: float) -> list[Markup]:
    marks = [svg.label(0, y - 4, "Hodges–Lehmann estimate", "row strong")]
    if found is None or not drawable(found.estimate):
        return [*marks, svg.label(WIDTH, y + 4.5, "not defined", "muted", "end")]
    ends = interval(found, metric.decimals)
    if isinstance(ends, Missing) or found.low is None or found.high is None:
        marks.append(svg.label(0, y + 13, "no interval at this level", "muted"))
    else:
        marks.append(svg.label(0, y + 13, f"{found.confidence:.0%} interval {ends}", "muted"))
        low, high = (_clamped(end, x) for end in (found.low, found.high))
        marks.append(svg.line(low, y, high, y, "interval"))
        for end, position in ((found.low, low), (found.high, high)):
            if math.isfinite(end):
                marks.append(svg.line(position, y - 7, position, y + 7, "interval"))
    marks.append(svg.diamond(x(found.estimate), y, 9, "estimate"))
    text = decimal(found.estimate, metric.decimals, signed=True)
    return [*marks, svg.label(WIDTH, y + 4.5, text, "number strong", "end")]


def _clamped(value: float, x: Scale) -> float:
    return x(min(max(value, x.low), x.high))


def _signed(tick: float) -> str:
    return ("+" if tick > 0 else "") + tick_label(tick)
