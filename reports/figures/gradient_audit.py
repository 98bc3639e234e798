"""The gradient audit, drawn: distributions per stage, medians and quartiles over training; every axis is of ratios."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from markupsafe import Markup

from analysis.audit import ratio_text, trained_stage
from analysis.document import Results
from analysis.results.gradient_audit import Audit, AuditPoint, AuditRatio, AuditStage
from reports.figures import svg
from reports.figures.panel import Figure, Panel
from reports.figures.scale import Scale, fit, tick_label
from reports.render.formats import arm_style
from reports.render.text import shorten

TITLES: dict[AuditRatio, str] = {
    "probability": "1 · Probability space",
    "geometric_mean": "2 · Tokens, geometric mean",
    "arithmetic_mean": "2 · Tokens, arithmetic mean",
    "logits": "3 · Logits",
    "parameters": "4 · Parameters",
}
WIDTH = 920.0
LEFT, RIGHT = 196.0, 84.0
ROW, BAND_TITLE, GAP, TOP = 21.0, 22.0, 12.0, 26.0
MOST_DOTS = 120
# Axes reach at least this far to both sides of 1, and at most that far: beyond, a mark at the edge says so.
NARROWEST, WIDEST = math.log(1.5), math.log(1e4)


def distribution_figure(point: AuditPoint, style: int, identity: str, when: str) -> Figure:
    """Per ratio and stage: a dot per pair, a box from quartile to quartile, a bar at the median."""
    ratios = [ratio for ratio in TITLES if any(stage.summary.get(ratio) for stage in point.stages)]
    axis = _axis(
        [
            value
            for stage in point.stages
            if stage.stage != "sequence" or stage.trained  # else exp(tens of nats) would decide the axis
            for values in stage.log_ratios.values()
            for value in values
            if value is not None
        ],
        LEFT,
        WIDTH - RIGHT,
    )
    band = BAND_TITLE + ROW * len(point.stages) + GAP
    bottom = TOP + band * len(ratios)
    content = [svg.label(WIDTH, TOP - 10, "median", "tick", "end")]
    for tick in axis.ticks():
        content.append(svg.line(axis(tick), TOP, axis(tick), bottom, "grid"))
        content.append(svg.label(axis(tick), bottom + 17, tick_label(tick), "tick", "middle"))
    content.append(svg.line(axis(1.0), TOP, axis(1.0), bottom, "reference"))
    for number, ratio in enumerate(ratios):
        y = TOP + band * number
        content.append(svg.label(0, y + 15, TITLES[ratio], "row strong"))
        for row, stage in enumerate(point.stages):
            content += _row(stage, ratio, axis, y + BAND_TITLE + ROW * (row + 0.5), style)
    label = "gradient ratio, chosen / rejected response (log scale)"
    content.append(svg.label((LEFT + WIDTH - RIGHT) / 2, bottom + 36, label, "axis", "middle"))
    arm = shorten(point.arm, 40)
    description = (
        f"{arm}, {when}: the ratio of the two gradients of each pair, measured in {len(ratios)} ways at "
        f"{len(point.stages)} stages. The table of stages gives the numbers."
    )
    picture = svg.picture(identity, f"Gradient ratios of {arm}", description, WIDTH, bottom + 46, content)
    notes = [
        "Dot: one pair. Box: quartiles. Bar: median. Dotted line: 1, balanced. Bold: the stage that was trained."
    ]
    if any(_beyond(stage, ratio, axis) for stage in point.stages for ratio in ratios):
        notes.append("Arrow: the quartiles lie outside the axis; the median on the right is exact.")
    return Figure(f"{arm}, {when}", picture, notes)


def _axis(logs: Sequence[float], start: float, end: float) -> Scale:
    """Holds all but the most extreme fiftieth of log ratios at each end."""
    ordered = sorted(logs) or [0.0]
    cut = len(ordered) // 50
    low = max(min(ordered[cut], -NARROWEST), -WIDEST)
    high = min(max(ordered[-1 - cut], NARROWEST), WIDEST)
    return fit([math.exp(low), math.exp(high)], start, end, log=True, padding=0.04)


def _place(log_ratio: float, axis: Scale) -> float:
    """A log ratio's place, at the edge when it is beyond: exp of hundreds of nats is no float."""
    return axis(math.exp(min(max(log_ratio, math.log(axis.low)), math.log(axis.high))))


def _beyond(stage: AuditStage, ratio: AuditRatio, axis: Scale) -> bool:
    found = stage.summary.get(ratio)
    if found is None or found.low is None or found.high is None:
        return False
    return found.low < math.log(axis.low) or found.high > math.log(axis.high)


def _row(stage: AuditStage, ratio: AuditRatio, axis: Scale, y: float, style: int) -> list[Markup]:
    marks = [svg.label(0, y + 4.5, shorten(stage.label, 32), "muted strong" if stage.trained else "muted")]
    found = stage.summary.get(ratio)
    if found is None or found.low is None or found.median is None or found.high is None:
        return [*marks, svg.label(WIDTH, y + 4.5, "undefined", "muted", "end")]
    known = [value for value in stage.log_ratios[ratio] if value is not None]
    stride = math.ceil(len(known) / MOST_DOTS)
    points: list[tuple[float, float] | None] = []
    for index, value in enumerate(known[::stride]):
        if math.log(axis.low) <= value <= math.log(axis.high):
            # The golden ratio's multiples: spread evenly, the same on every page.
            points += [(_place(value, axis), y + 11 * ((index * 0.618) % 1 - 0.5)), None]
    if points:
        marks.append(svg.element("path", d=svg.path(points), class_=f"dots arm-{style}"))
    low, middle, high = (_place(value, axis) for value in (found.low, found.median, found.high))
    marks.append(svg.element("rect", x=low, y=y - 6.5, width=max(high - low, 1.5), height=13, class_="box"))
    marks.append(svg.line(middle, y - 6.5, middle, y + 6.5, "interval"))
    if found.low < math.log(axis.low):
        marks.append(_arrow(axis.start, y, -1))
    if found.high > math.log(axis.high):
        marks.append(_arrow(axis.end, y, 1))
    marks.append(
        svg.label(
            WIDTH, y + 4.5, ratio_text(found.median), "number strong" if stage.trained else "number", "end"
        )
    )
    return marks


def _arrow(x: float, y: float, direction: int) -> Markup:
    return svg.polygon([(x, y - 5), (x + 7 * direction, y), (x, y + 5)], "estimate")


def training_figures(points: Sequence[AuditPoint], style: Callable[[str], int]) -> list[Figure]:
    """Per ratio the median of each arm's trained stage over steps, with a band from quartile to quartile."""
    arms = list(dict.fromkeys(point.arm for point in points))
    figures = []
    for number, (ratio, title) in enumerate(TITLES.items(), 1):
        lines = {}
        for arm in arms:
            line = [_quartiles_at(point, ratio) for point in points if point.arm == arm]
            lines[arm] = [each for each in line if each is not None]
        if any(lines.values()):
            figures.append(_training(title, f"figure-audit-training-{number}", lines, style))
    return figures


def _quartiles_at(point: AuditPoint, ratio: AuditRatio) -> tuple[int, float, float, float] | None:
    found = trained_stage(point).summary.get(ratio)
    if found is None or found.low is None or found.median is None or found.high is None:
        return None
    return point.step, found.low, found.median, found.high


Line = list[tuple[int, float, float, float]]


def _training(title: str, identity: str, lines: dict[str, Line], style: Callable[[str], int]) -> Figure:
    panel = Panel([(arm, style(arm)) for arm in lines])
    x = panel.across([float(each[0]) for line in lines.values() for each in line])
    y = _axis(
        [value for line in lines.values() for each in line for value in each[1:]], panel.floor, panel.top
    )
    bands, medians, marks = [], [], []
    for arm, line in lines.items():
        mark = f"arm-{style(arm)}"
        edge = [(x(step), _place(high, y)) for step, _, _, high in line]
        edge += [(x(step), _place(low, y)) for step, low, _, _ in reversed(line)]
        bands.append(svg.polygon(edge, f"between {mark}"))
        path = svg.path([(x(step), _place(median, y)) for step, _, median, _ in line])
        medians.append(svg.element("path", d=path, class_="halo"))
        medians.append(svg.element("path", d=path, class_=f"average {mark}"))
        for step, _, median, _ in line:
            tip = svg.element("title", f"{shorten(arm, 60)}, step {step}: {ratio_text(median)}")
            place = {"cx": x(step), "cy": _place(median, y), "r": 3.5}
            marks.append(svg.element("circle", tip, **place, class_=f"knot {mark}"))
    frame = [*panel.frame(x, y, "training step"), panel.level(1.0, y, "reference")]
    names = ", ".join(shorten(arm, 40) for arm in lines)
    description = f"{title}: median ratio with quartiles over training steps, for {names}."
    return Figure(
        title, panel.picture(identity, title, description, [*frame, *bands, *medians, *marks]), panel.notes
    )


def logged_figure(results: Results, audit: Audit) -> Figure | None:
    """Ratio 1 as training logged it for the audited runs: what there is where no snapshot was kept."""
    lines: dict[str, Line] = {}
    for curve in results.curves:
        if curve.name == "gradient_ratio" and (curve.setting, curve.seed) == (audit.setting, audit.seed):
            found = zip(curve.steps, curve.values, strict=False)
            known = [(step, math.log(value)) for step, value in found if value is not None and value > 0]
            stride = math.ceil(len(known) / MOST_DOTS) or 1
            lines[curve.arm] = [(step, value, value, value) for step, value in known[::stride]]
    if not any(lines.values()):
        return None
    drawn = _training(
        "1 · Probability space, as logged", "figure-audit-logged", lines, lambda arm: arm_style(results, arm)
    )
    note = (
        "From the training log: the mean log ratio of each batch. No snapshots were kept during training; "
        "set train.snapshot_steps to keep some."
    )
    return replace(drawn, notes=[note, *drawn.notes])
