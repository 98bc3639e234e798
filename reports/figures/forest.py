"""Differences with their intervals: of two arms, a row for each setting; of two files, a row for each metric."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from analysis.document import Results
from analysis.prompts.paired import FileComparison
from analysis.results.model import Comparison, Interval, Metric, PromptInterval, SettingDifference
from reports.figures import svg
from reports.figures.panel import LETTER
from reports.figures.scale import Scale, drawable, fit, tick_label
from reports.render.cells import Missing
from reports.render.formats import decimal, interval, level, metric_named, primary_comparison, titled
from reports.render.text import plural, shorten

WIDTH = 920.0
ROW = 30.0
TOP = 44.0
RIGHT = 96.0  # room for the row's number
MOST = 100  # rows; of more settings, those at even ranks of their difference


@dataclass(frozen=True)
class PrimaryFigure:
    """The section."""

    picture: Markup
    prompts: str  # what its intervals over prompts are, or why there are none
    rows: str  # which settings are drawn, where not all are


def primary_figure(results: Results) -> PrimaryFigure | None:
    """The figure of the declared comparison; None where there is none."""
    found = primary_comparison(results)
    if found is None:
        return None
    picture = differences_figure(results, found, metric_named(results, found.metric))
    return PrimaryFigure(picture, _prompts_note(results), _rows_note(found))


def _prompts_note(results: Results) -> str:
    found = results.prompt_level
    if found is None:
        reason = results.prompt_level_reason
        return f"No intervals over prompts: {reason}." if reason else ""
    lacking = sum(each.low is None for each in found.settings)
    without = f" {plural(lacking, 'setting')} without: too many draws have no value." if lacking else ""
    return (
        f"Bracket: {found.confidence:.0%} interval of the setting's mean over other draws of the "
        f"{plural(found.prompts, 'prompt')} (paired bootstrap, {found.replicates:,} draws, the win rate "
        f"fitted again in each). Brackets show prompt uncertainty; circles show seed variation.{without}"
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
        *_region(results, x, foot),
        *_frame(x, foot, *_axis_words(results, metric)),
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
        "The table of means gives the numbers."
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


def _rows_note(comparison: Comparison) -> str:
    total = len(comparison.differences)
    if total <= MOST:
        return ""
    return (
        f"{len(_rows(comparison))} of {total:,} settings are drawn, at even ranks and the largest difference first. "
        "All settings: tables/differences.csv."
    )


def _over_prompts(results: Results, comparison: Comparison) -> dict[str, PromptInterval]:
    found = results.prompt_level
    if found is None or found.metric != comparison.metric:
        return {}
    return {each.setting: each for each in found.settings}


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


def _frame(x: Scale, foot: float, left: str, right: str, title: str) -> list[Markup]:
    """Grid, ticks, zero, and who is better on which side of it."""
    marks = []
    for tick in x.ticks(7):
        marks.append(svg.line(x(tick), TOP - 8, x(tick), foot, "grid"))
        signed = ("+" if tick > 0 else "") + tick_label(tick)
        marks.append(svg.label(x(tick), foot + 17, signed, "tick", "middle"))
    zero = x(0)
    marks.append(svg.line(zero, TOP - 8, zero, foot, "zero"))
    # Words for which a side has no room would be cut: the axis says the same.
    if zero - 12 > LETTER * len(left):
        marks.append(svg.label(zero - 12, TOP - 18, f"← {left}", "side", "end"))
    if WIDTH - zero - 12 > LETTER * len(right):
        marks.append(svg.label(zero + 12, TOP - 18, f"{right} →", "side"))
    middle = (x.start + x.end) / 2
    return [*marks, svg.label(middle, foot + 36, title, "axis", "middle")]


def _region(results: Results, x: Scale, foot: float) -> list[Markup]:
    """The region of practical equivalence."""
    rope = results.declared.rope
    if not drawable(rope) or rope <= 0:
        return []
    place = {"x": x(-rope), "y": TOP - 8, "width": x(rope) - x(-rope), "height": foot - TOP + 8}
    return [svg.element("rect", **place, class_="rope")]


def _axis_words(results: Results, metric: Metric) -> tuple[str, str, str]:
    down, up = results.declared.baseline, results.declared.candidate
    if metric.higher_is_better is False:
        down, up = up, down
    word = "higher" if metric.higher_is_better is None else "better"
    return f"{shorten(down, 24)} {word}", f"{shorten(up, 24)} {word}", f"Difference in {titled(metric)}"


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
    name = "Hodges–Lehmann estimate"
    if found is None or not drawable(found.estimate):
        return [
            svg.label(0, y - 4, name, "row strong"),
            svg.label(WIDTH, y + 4.5, "not defined", "muted", "end"),
        ]
    ends = interval(found, metric.decimals)
    if isinstance(ends, Missing) or found.low is None or found.high is None:
        return _estimate_row(name, "no interval at this level", found.estimate, None, metric.decimals, x, y)
    words = f"{level(found.confidence)} interval {ends}"
    return _estimate_row(name, words, found.estimate, (found.low, found.high), metric.decimals, x, y)


def _estimate_row(
    name: str,
    words: str,
    estimate: float,
    ends: tuple[float, float] | None,
    decimals: int,
    x: Scale,
    y: float,
) -> list[Markup]:
    """A large diamond with its interval; an end beyond the axis has no cap."""
    marks = [svg.label(0, y - 4, name, "row strong")]
    if words:
        marks.append(svg.label(0, y + 13, words, "muted"))
    if ends is not None:
        low, high = (x(min(max(end, x.low), x.high)) for end in ends)
        marks.append(svg.line(low, y, high, y, "interval"))
        for end, place in zip(ends, (low, high), strict=True):
            if math.isfinite(end):
                marks.append(svg.line(place, y - 7, place, y + 7, "interval"))
    marks.append(svg.diamond(x(estimate), y, 9, "estimate"))
    return [
        *marks,
        svg.label(WIDTH, y + 4.5, decimal(estimate, decimals, signed=True), "number strong", "end"),
    ]


def files_figure(compared: FileComparison) -> Markup | None:
    """Of two annotation files: each metric's difference with its interval; None where no difference is defined."""
    rows = [
        (each, each.estimate)
        for each in compared.differences
        if each.estimate is not None and drawable(each.estimate)
    ]
    if not rows:
        return None
    known = [
        end
        for each, value in rows
        for end in (value, each.low, each.high)
        if end is not None and drawable(end)
    ]
    x = fit([0.0, *known], 190 + 12, WIDTH - RIGHT - 12)
    foot = TOP + 46 * len(rows)
    a, b = (
        shorten(score.generator or letter, 24) for score, letter in ((compared.a, "A"), (compared.b, "B"))
    )
    content = _frame(x, foot, f"B better: {b}", f"A better: {a}", "A minus B (points)")
    for index, (each, value) in enumerate(rows):
        words, ends = "", None
        if each.low is not None and each.high is not None and drawable(each.low) and drawable(each.high):
            low, high = (decimal(end, 1, signed=True) for end in (each.low, each.high))
            words, ends = f"{level(each.confidence)}: {low} to {high}", (each.low, each.high)
        content += _estimate_row(each.label, words, value, ends, 1, x, TOP + 46 * (index + 0.5))
    described = "; ".join(f"{each.label} {decimal(value, 1, signed=True)}" for each, value in rows)
    description = f"A minus B in points: {described}. The table gives the numbers."
    return svg.picture(
        "figure-compared", "Differences with intervals", description, WIDTH, foot + 44, content
    )
