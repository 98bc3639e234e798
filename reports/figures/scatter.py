"""Two metrics against each other, a mark for each run: arms are told apart by shape as well as colour."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from analysis.document import Results
from analysis.results.model import Metric, RunRow
from analysis.results.values import State
from reports.figures import svg
from reports.figures.scale import Scale, drawable, fit, tick_label
from reports.render.cells import Missing
from reports.render.formats import ARM_STYLES, arm_style, arms_in_order, metric_named, titled
from reports.render.text import plural, shorten

WIDTH, HEIGHT = 520.0, 360.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 16.0, 42.0, 48.0
MOST_MARKS = 600  # of single runs; beyond, a mark for each arm at each setting
MOST_MEANS = 1200
# The first that a sweep has; others bring their own names.
_KL = ("kl", "kl_k3", "kl_per_token", "kl_k3_per_token")


@dataclass(frozen=True)
class Scatter:
    """A figure and what has to be said under it."""

    title: str
    picture: Markup
    notes: list[str]


@dataclass(frozen=True)
class _Dot:
    arm: str
    name: str
    x: float
    y: float


def lengths_of(results: Results) -> list[Scatter] | Missing | None:
    """LC against WR, and LC against length; None where there is no LC."""
    return _section(
        results,
        "length_controlled_win_rate",
        [("win_rate", "figure-scatter-wr", True), ("mean_length", "figure-scatter-length", False)],
    )


def kl_of(results: Results) -> list[Scatter] | Missing | None:
    """Win rates against the distance from the reference; None where KL was not measured."""
    kl = next((name for name in _KL if _known(results, name)), None)
    if kl is None:
        return None
    lc = _section(results, "length_controlled_win_rate", [(kl, "figure-scatter-kl-lc", False)])
    raw = _section(results, "win_rate", [(kl, "figure-scatter-kl-wr", False)])
    found = [each for part in (lc, raw) if isinstance(part, list) for each in part]
    return found or Missing("No run that counts has both a win rate and a KL.")


def _known(results: Results, name: str) -> bool:
    return any(run.metrics.get(name) is not None for run in results.runs)


def _section(
    results: Results, y: str, against: list[tuple[str, str, bool]]
) -> list[Scatter] | Missing | None:
    if not _known(results, y):
        return None
    made = [
        scatter(results, x, y, identity, diagonal=same) for x, identity, same in against if _known(results, x)
    ]
    return [each for each in made if each is not None] or None


def scatter(
    results: Results, x_name: str, y_name: str, identity: str, *, diagonal: bool = False
) -> Scatter | None:
    """The figure; None where no run has both values. `diagonal`: both are on one scale, draw where they are equal."""
    x_metric, y_metric = metric_named(results, x_name), metric_named(results, y_name)
    dots = list(_dots(results.runs, x_name, y_name))
    if not dots:
        return None
    what, notes = "run", []
    if len(dots) > MOST_MARKS:
        notes.append(f"{len(dots):,} runs: each mark is the mean of an arm's runs at one setting.")
        what, dots = "setting", list(_means(dots))
    if len(dots) > MOST_MEANS:
        stride = math.ceil(len(dots) / MOST_MEANS)
        dots = dots[::stride]
        notes.append(f"One in {stride} is drawn.")
    x = fit([dot.x for dot in dots], LEFT + 8, WIDTH - RIGHT - 8)
    y = fit([dot.y for dot in dots], HEIGHT - BOTTOM - 8, TOP + 8)
    arms = list(dict.fromkeys([*arms_in_order(results), *(dot.arm for dot in dots)]))
    present = [arm for arm in arms if any(dot.arm == arm for dot in dots)]
    marks = _axes(x, y, x_metric, y_metric)
    if diagonal:
        marks += _diagonal(x, y)
    faint = " faint" if len(dots) > 80 else ""
    for arm in present:
        style = arm_style(results, arm)
        for dot in dots:
            if dot.arm == arm:
                marks.append(shape(style, x(dot.x), y(dot.y), 4.2, dot.name, faint))
    marks += _legend(results, present)
    description = (
        f"{titled(y_metric)} against {titled(x_metric)}, a mark for each {what}; "
        f"{plural(len(dots), 'mark')} of {', '.join(shorten(arm, 40) for arm in present)}. "
        "The numbers are in the table of runs."
    )
    title = f"{y_metric.label} against {_in_sentence(x_metric.label)}"
    return Scatter(title, svg.picture(identity, title, description, WIDTH, HEIGHT, marks), notes)


def _in_sentence(label: str) -> str:
    """A label amid a sentence: small, unless it starts with an abbreviation."""
    return label if label[1:2].isupper() else label[:1].lower() + label[1:]


def _dots(runs: Iterable[RunRow], x: str, y: str) -> Iterable[_Dot]:
    for run in runs:
        across, up = run.metrics.get(x), run.metrics.get(y)
        if (
            run.state == State.DONE
            and across is not None
            and up is not None
            and drawable(across)
            and drawable(up)
        ):
            yield _Dot(run.arm, f"{run.arm}, {run.setting}, seed {run.seed}", across, up)


def _means(dots: list[_Dot]) -> Iterable[_Dot]:
    together: dict[tuple[str, str], list[_Dot]] = {}
    for dot in dots:
        together.setdefault((dot.arm, dot.name.rpartition(", seed")[0]), []).append(dot)
    for (arm, name), group in together.items():
        yield _Dot(
            arm,
            name,
            math.fsum(dot.x for dot in group) / len(group),
            math.fsum(dot.y for dot in group) / len(group),
        )


def shape(style: int, x: float, y: float, size: float, name: str = "", faint: str = "") -> Markup:
    """The mark of an arm: ring, diamond, square, triangle, cross or plus; `name` is its tooltip."""
    tip = (svg.element("title", shorten(name, 160)),) if name else ()
    class_ = f"mark arm-{style}{faint}"
    points: list[list[tuple[float, float]]]
    match style % ARM_STYLES:
        case 0:
            return svg.element("circle", *tip, cx=x, cy=y, r=size, class_=f"{class_} hollow")
        case 1:
            return svg.element(
                "path",
                *tip,
                d=_closed(
                    [(x, y - 1.3 * size), (x + 1.3 * size, y), (x, y + 1.3 * size), (x - 1.3 * size, y)]
                ),
                class_=class_,
            )
        case 2:
            return svg.element(
                "path",
                *tip,
                d=_closed(
                    [(x - size, y - size), (x + size, y - size), (x + size, y + size), (x - size, y + size)]
                ),
                class_=f"{class_} hollow",
            )
        case 3:
            return svg.element(
                "path",
                *tip,
                d=_closed([(x, y - 1.2 * size), (x + 1.2 * size, y + size), (x - 1.2 * size, y + size)]),
                class_=class_,
            )
        case 4:
            points = [
                [(x - size, y - size), (x + size, y + size)],
                [(x - size, y + size), (x + size, y - size)],
            ]
        case _:
            points = [[(x - 1.2 * size, y), (x + 1.2 * size, y)], [(x, y - 1.2 * size), (x, y + 1.2 * size)]]
    return svg.element(
        "path", *tip, d="".join(svg.path([*line]) for line in points), class_=f"{class_} hollow"
    )


def _closed(points: list[tuple[float, float]]) -> str:
    return svg.path([*points]) + "Z"


def _axes(x: Scale, y: Scale, x_metric: Metric, y_metric: Metric) -> list[Markup]:
    marks = []
    for tick in y.ticks(5):
        marks.append(svg.line(LEFT, y(tick), WIDTH - RIGHT, y(tick), "grid"))
        marks.append(svg.label(LEFT - 8, y(tick) + 4, tick_label(tick), "tick", "end"))
    for tick in x.ticks(5):
        marks.append(svg.line(x(tick), TOP, x(tick), HEIGHT - BOTTOM, "grid"))
        marks.append(svg.label(x(tick), HEIGHT - BOTTOM + 18, tick_label(tick), "tick", "middle"))
    marks.append(svg.line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "base"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    marks.append(svg.label(middle, HEIGHT - 10, shorten(titled(x_metric), 50), "axis", "middle"))
    marks.append(svg.label(0, TOP - 12, shorten(titled(y_metric), 50), "axis"))
    return marks


def _diagonal(x: Scale, y: Scale) -> list[Markup]:
    low, high = max(x.low, y.low), min(x.high, y.high)
    return [svg.line(x(low), y(low), x(high), y(high), "reference")] if low < high else []


def _legend(results: Results, arms: list[str]) -> list[Markup]:
    marks = []
    position = LEFT
    for arm in arms:
        words = shorten(arm, 22)
        marks.append(shape(arm_style(results, arm), position + 5, 11, 4.6))
        marks.append(svg.label(position + 16, 15.5, words, "legend"))
        position += 40 + 7.6 * len(words)
    return marks
