"""Two metrics against each other, a mark for each run: arms are told apart by shape as well as colour."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from analysis.document import Results
from analysis.results.model import RunRow
from analysis.results.values import State
from reports.figures import svg
from reports.figures.panel import Figure, Panel
from reports.figures.scale import Scale, drawable
from reports.render.cells import Missing
from reports.render.formats import arm_style, arms_in_order, metric_named, titled
from reports.render.text import plural, shorten

MOST_MARKS = 600  # of single runs; beyond, a mark for each arm at each setting
MOST_MEANS = 1200
# The first that a sweep has; others bring their own names.
_KL = ("kl", "kl_k3", "kl_per_token", "kl_k3_per_token")


@dataclass(frozen=True)
class _Dot:
    arm: str
    name: str
    x: float
    y: float


def lengths_of(results: Results) -> list[Figure] | Missing | None:
    """LC against WR, and LC against length; None where there is no LC."""
    return _section(
        results,
        "length_controlled_win_rate",
        [("win_rate", "figure-scatter-wr", True), ("mean_length", "figure-scatter-length", False)],
    )


def kl_of(results: Results) -> list[Figure] | Missing | None:
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


def _section(results: Results, y: str, against: list[tuple[str, str, bool]]) -> list[Figure] | Missing | None:
    if not _known(results, y):
        return None
    made = [
        scatter(results, x, y, identity, diagonal=same) for x, identity, same in against if _known(results, x)
    ]
    return [each for each in made if each is not None] or None


def scatter(
    results: Results, x_name: str, y_name: str, identity: str, *, diagonal: bool = False
) -> Figure | None:
    """The figure; None where no run has both values. `diagonal`: both are on one scale, draw where they are equal."""
    x_metric, y_metric = metric_named(results, x_name), metric_named(results, y_name)
    dots = list(_dots(results.runs, x_name, y_name))
    if not dots:
        return None
    what, notes = "run", []
    if len(dots) > MOST_MARKS:
        notes.append(f"{len(dots):,} runs: each mark is the mean of one arm's runs at one setting.")
        what, dots = "setting", list(_means(dots))
    if len(dots) > MOST_MEANS:
        stride = math.ceil(len(dots) / MOST_MEANS)
        dots = dots[::stride]
        notes.append(f"One mark in {stride} is drawn.")
    arms = list(dict.fromkeys([*arms_in_order(results), *(dot.arm for dot in dots)]))
    present = [arm for arm in arms if any(dot.arm == arm for dot in dots)]
    styles = [(arm, arm_style(results, arm)) for arm in present]
    panel = Panel(styles, height=352, titled=True, key=_key, key_width=10)
    x, y = panel.across([dot.x for dot in dots], 0.08), panel.up([dot.y for dot in dots])
    marks = panel.frame(x, y, titled(x_metric), titled(y_metric), counts=False)
    if diagonal:
        marks += _diagonal(x, y)
    faint = " faint" if len(dots) > 80 else ""
    for arm, style in styles:
        marks += [shape(style, x(dot.x), y(dot.y), 4.2, dot.name, faint) for dot in dots if dot.arm == arm]
    description = (
        f"{titled(y_metric)} against {titled(x_metric)}, one mark per {what}; "
        f"{plural(len(dots), 'mark')} of {', '.join(shorten(arm, 40) for arm in present)}. "
        "The table of runs gives the numbers."
    )
    title = f"{y_metric.label} against {_in_sentence(x_metric.label)}"
    return Figure(title, panel.picture(identity, title, description, marks), notes + panel.notes)


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


# An arm's mark as lines between corners, in its size; the first arm's is a ring.
_SHAPES: dict[int, list[list[tuple[float, float]]]] = {
    1: [[(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)]],
    2: [[(-1, -1), (1, -1), (1, 1), (-1, 1)]],
    3: [[(0, -1.2), (1, 1), (-1, 1)]],
    4: [[(-1, -1), (1, 1)], [(-1, 1), (1, -1)]],
    5: [[(-1.2, 0), (1.2, 0)], [(0, -1.2), (0, 1.2)]],
}


def shape(style: int, x: float, y: float, size: float, name: str = "", faint: str = "") -> Markup:
    """The mark of an arm: ring, diamond, square, triangle, cross or plus; `name` is its tooltip."""
    tip = (svg.element("title", shorten(name, 160)),) if name else ()
    class_ = f"mark arm-{style}{faint}"
    if style not in _SHAPES:
        return svg.element("circle", *tip, cx=x, cy=y, r=size, class_=class_)
    lines = [svg.path([(x + size * a, y + size * b) for a, b in line]) for line in _SHAPES[style]]
    return svg.element("path", *tip, d="".join(lines) + ("" if len(lines) > 1 else "Z"), class_=class_)


def _key(style: int, x: float, y: float) -> Markup:
    return shape(style, x + 5, y, 4.6)


def _diagonal(x: Scale, y: Scale) -> list[Markup]:
    low, high = max(x.low, y.low), min(x.high, y.high)
    return [svg.line(x(low), y(low), x(high), y(high), "reference")] if low < high else []
