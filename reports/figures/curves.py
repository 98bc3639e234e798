"""Training curves: per logged quantity a thin line for each run and a thick one for each arm's mean."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

from markupsafe import Markup

from analysis.document import Results
from analysis.results.model import Curve
from reports.figures import svg
from reports.figures.panel import LEFT, RIGHT, WIDTH, Figure, Panel
from reports.figures.scale import Scale, drawable
from reports.render.cells import Missing
from reports.render.formats import arm_style, arms_in_order, titled
from reports.render.text import plural, shorten

POINTS_PER_FIGURE = 4000  # keeps a page of long runs small; a thin line keeps at least 24 points
CROWD = 30  # from here on thin lines are fainter still
MOST_LINES = 300  # beyond, each arm has a band between quantiles instead of its runs
STEPS = 120  # drawn of a band
LOW, HIGH = 0.1, 0.9
_KNOWN = {
    "reward_margin": "Reward margin, training pairs (nats)",
    "gradient_ratio": "Gradient ratio (log scale)",
    "loss": "Training loss",
    "chosen_logps": "Chosen log-probability, training pairs (nats)",
    "rejected_logps": "Rejected log-probability, training pairs (nats)",
    "heldout_reward_margin": "Reward margin, held-out pairs (nats)",
    "heldout_reward_accuracy": "Reward accuracy, held-out pairs",
    "heldout_chosen_logps": "Chosen log-probability, held-out pairs (nats)",
    "heldout_rejected_logps": "Rejected log-probability, held-out pairs (nats)",
}
# On a log axis, with a reference line and what it means.
_REFERENCES = {
    "gradient_ratio": (
        1.0,
        "Gradient on the chosen divided by that on the rejected response. Dotted line: 1, balanced.",
    )
}

Point = tuple[float, float]


def curves_of(results: Results) -> list[Figure] | Missing:
    """The section."""
    return curve_figures(results) or Missing("No curve was logged.")


def curve_figures(results: Results) -> list[Figure]:
    """One figure per quantity: the known ones first, then in order of appearance."""
    found = list(dict.fromkeys(curve.name for curve in results.curves))
    names = [name for name in _KNOWN if name in found] + [name for name in found if name not in _KNOWN]
    return [_figure(results, name, f"figure-curve-{index}") for index, name in enumerate(names, 1)]


def _figure(results: Results, name: str, identity: str) -> Figure:
    curves = [curve for curve in results.curves if curve.name == name]
    log = name in _REFERENCES
    title = _title(results, name)
    values = [
        value for curve in curves for value in curve.values if value is not None and drawable(value, log=log)
    ]
    steps = [float(step) for curve in curves for step in curve.steps]
    if not values:
        return Figure(title, Missing("no finite value was logged"), ["No finite value was logged."])
    kept = _without_outliers(values)
    reference = [_REFERENCES[name][0]] if log else []
    arms = list(dict.fromkeys([*arms_in_order(results), *(curve.arm for curve in curves)]))
    arms = [arm for arm in arms if any(curve.arm == arm for curve in curves)]
    panel = Panel([(arm, arm_style(results, arm)) for arm in arms])
    x, y = panel.across(steps, 0.02), panel.up(kept + reference, log=log)
    stride = max(1, math.ceil(len(values) / max(POINTS_PER_FIGURE, 24 * len(curves))))
    crowded = len(curves) > MOST_LINES
    run = "run faint" if len(curves) > CROWD else "run"
    runs: list[Markup] = []
    means: list[Markup] = []
    for arm in arms:
        mine = [curve for curve in curves if curve.arm == arm]
        style = f"arm-{arm_style(results, arm)}"
        if crowded:
            runs.append(svg.element("path", d=_band(mine, x, y), class_=f"between {style}"))
        for curve in [] if crowded else mine:
            tip = svg.element("title", shorten(f"{arm}, {curve.setting}, seed {curve.seed}", 160))
            d = svg.path(_places(_thinned(list(zip(curve.steps, curve.values, strict=False)), stride), x, y))
            runs.append(svg.element("path", tip, d=d, class_=f"{run} {style}"))
        average = _mean(mine, log)
        pace = max(stride, math.ceil(len(average) / STEPS)) if crowded else stride
        d = svg.path(_places(_thinned(average, pace), x, y))
        means += [svg.element("path", d=d, class_=each) for each in ("halo", f"average {style}")]
    inside = {
        "x": LEFT,
        "y": panel.top - 2,
        "width": WIDTH - LEFT - RIGHT + 2,
        "height": panel.floor - panel.top + 4,
    }
    clip = svg.element("clipPath", svg.element("rect", **inside), id=f"{identity}-clip")
    lines = svg.element("g", *runs, *means, clip_path=f"url(#{identity}-clip)")
    content = [clip, *panel.frame(x, y, "training step")]
    if log:
        content.append(panel.level(reference[0], y, "reference"))
    elif y.low < 0 < y.high:
        content.append(panel.level(0, y, "zero"))
    names = ", ".join(shorten(arm, 40) for arm in arms)
    description = f"{title} over training steps; {plural(len(curves), 'run')} of {names}."
    picture = panel.picture(identity, title, description, [*content, lines])
    notes = _notes(name, curves, values, kept, 1 if crowded else stride) + panel.notes
    if crowded:
        notes.insert(0, f"Band: {LOW:.0%} to {HIGH:.0%} quantile of the arm's runs at each step.")
    return Figure(title, picture, notes)


def _title(results: Results, name: str) -> str:
    described = [metric for metric in results.metrics if metric.name == name]
    if name in _KNOWN or not described:
        return _KNOWN.get(name, _spelled(name))
    return shorten(titled(described[0]), 60)


def _spelled(name: str) -> str:
    words = shorten(name.replace("_", " "), 60)
    return words[:1].upper() + words[1:]


def _without_outliers(values: list[float]) -> list[float]:
    """The values the axis is made for: all, unless a few stretch it more than eightfold."""
    ordered = sorted(values)
    cut = max(1, len(ordered) // 50)
    core = ordered[cut:-cut]
    if len(core) < 10 or ordered[-1] - ordered[0] <= 8 * (core[-1] - core[0]):
        return values
    return core


def _mean(curves: list[Curve], log: bool) -> list[tuple[int, float | None]]:
    """The arm's mean at every step, over the runs that logged it; on a log axis the geometric mean."""
    at: dict[int, list[float]] = defaultdict(list)
    for curve in curves:
        for step, value in zip(curve.steps, curve.values, strict=False):
            if value is not None and drawable(value, log=log):
                at[step].append(math.log(value) if log else value)
    means = ((step, math.fsum(values) / len(values)) for step, values in sorted(at.items()))
    return [(step, math.exp(mean) if log else mean) for step, mean in means]


def _band(curves: list[Curve], x: Scale, y: Scale) -> str:
    """The outline of an arm's runs between two quantiles at each step, forth along one and back along the other."""
    at: dict[int, list[float]] = defaultdict(list)
    for curve in curves:
        for step, value in zip(curve.steps, curve.values, strict=False):
            if value is not None and drawable(value, log=y.log):
                at[step].append(value)
    steps = sorted(at)
    steps = [step for step, _ in _thinned([(step, None) for step in steps], math.ceil(len(steps) / STEPS))]
    ends: list[list[Point | None]] = [[], []]
    for step in steps:
        ordered = sorted(at[step])
        for end, share in zip(ends, (LOW, HIGH), strict=True):
            end.append((x(step), _held(y(ordered[round(share * (len(ordered) - 1))]))))
    return svg.path([*ends[0], *reversed(ends[1])]) + "Z" if steps else ""


def _thinned(points: list[tuple[int, float | None]], stride: int) -> list[tuple[int, float | None]]:
    last = len(points) - 1
    return [point for index, point in enumerate(points) if index % stride == 0 or index == last]


def _places(points: Iterable[tuple[int, float | None]], x: Scale, y: Scale) -> list[Point | None]:
    return [
        (x(step), _held(y(value))) if value is not None and drawable(value, log=y.log) else None
        for step, value in points
    ]


def _held(position: float) -> float:
    """A position at most a figure or so away: viewers mishandle huge coordinates."""
    return min(max(position, -400.0), 800.0)


def _notes(name: str, curves: list[Curve], values: list[float], kept: list[float], stride: int) -> list[str]:
    notes = [_REFERENCES[name][1]] if name in _REFERENCES else []
    logged = sum(value is not None for curve in curves for value in curve.values)
    if logged > len(values):
        why = "not above 0 or not finite" if name in _REFERENCES else "not finite"
        notes.append(f"Not drawn: {plural(logged - len(values), 'value')} {why}.")
    if len(kept) < len(values):
        notes.append("Extreme values lie outside the axis.")
    if stride > 1:
        notes.append(f"One logged step in {stride} is drawn.")
    return notes
