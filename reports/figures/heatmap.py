"""The paired difference over the grid, as a heat map: the two axes with most values, one map for each of the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from analysis.document import Results
from analysis.results.model import Metric, SettingDifference, Value
from reports.figures import svg
from reports.figures.scale import drawable
from reports.render.cells import Shown
from reports.render.formats import arm_name, decimal, metric_named, primary_comparison, setting_value, titled
from reports.render.text import plural, shorten

STEPS = 4  # shades on either side of none
MOST_MAPS = 12
WIDE, HIGH, TOP = 88.0, 46.0, 30.0  # of a cell, and above the first row

Place = tuple[str, ...]  # the values of some axes


@dataclass(frozen=True)
class HeatMap:
    """One map; its title names the axes that are fixed, if any."""

    title: str
    picture: Markup


@dataclass(frozen=True)
class Heat:
    """The section."""

    maps: list[HeatMap]
    key: Markup
    sides: tuple[Shown, Shown]  # who is better on the key's left and right
    note: str


def heat_of(results: Results) -> Heat | None:
    """The section; None where no axis of the grid has two values, or nothing is compared."""
    found = primary_comparison(results)
    places = _places(results)
    across = sorted((axis for axis in places if len(places[axis]) > 1), key=lambda axis: -len(places[axis]))
    if found is None or not across or all(each.mean is None for each in found.differences):
        return None
    metric = metric_named(results, found.metric)
    columns, rows = across[0], across[1] if len(across) > 1 else ""
    rest = across[2:]
    where = {run.setting: run.hyperparameters for run in results.runs}
    cells: dict[tuple[Place, Place], SettingDifference] = {}
    for each in found.differences:
        at = {axis: setting_value(value) for axis, value in where.get(each.setting, {}).items()}
        inner = (at.get(rows, ""), at.get(columns, ""))
        cells[tuple(at.get(axis, "") for axis in rest), inner] = each
    largest = max(
        (abs(d.mean) for d in found.differences if d.mean is not None and drawable(d.mean)), default=0.0
    )
    fixed = list(dict.fromkeys(outer for outer, _ in cells))
    maps = []
    for number, outer in enumerate(fixed[:MOST_MAPS], 1):
        title = ", ".join(f"{axis} {value}" for axis, value in zip(rest, outer, strict=True))
        inside = {inner: each for (place, inner), each in cells.items() if place == outer}
        drawn = _Map(metric, columns, rows, places[columns], places.get(rows, [""]), largest)
        maps.append(HeatMap(title, drawn.picture(f"figure-heat-{number}", title, inside)))
    left_out = len(fixed) - len(maps)
    declared = results.declared
    low, high = declared.baseline, declared.candidate
    if metric.higher_is_better is False:
        low, high = high, low
    word = " higher" if metric.higher_is_better is None else " better"
    return Heat(
        maps=maps,
        key=_key(largest, metric),
        sides=((arm_name(results, low), word), (arm_name(results, high), word)),
        note=f"{plural(left_out, 'more map')} not drawn: {', '.join(rest)} have too many values."
        if left_out
        else "",
    )


def _places(results: Results) -> dict[str, list[str]]:
    """Axis -> its values as text: numbers by size, others in the order of the grid."""

    def by_size(values: list[Value]) -> list[Value]:
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        return sorted(values, key=lambda value: float(value or 0)) if numbers else values

    return {
        axis: list(dict.fromkeys(setting_value(value) for value in by_size(values)))
        for axis, values in results.axes.items()
    }


def shade(value: float, largest: float) -> str:
    """The class of a cell: "up-1" to "up-4", "down-1" to "down-4" by size, or "level" near 0."""
    step = math.ceil(STEPS * abs(value) / largest - 0.1) if largest > 0 else 0
    return f"{'up' if value > 0 else 'down'}-{min(step, STEPS)}" if step > 0 else "level"


@dataclass(frozen=True)
class _Map:
    metric: Metric
    columns: str
    rows: str
    across: list[str]
    down: list[str]
    largest: float

    @property
    def left(self) -> float:
        longest = max(len(shorten(text, 24)) for text in [self.rows, *self.down])
        return 16 + 7.6 * longest if self.rows else 0

    def picture(self, identity: str, title: str, cells: dict[Place, SettingDifference]) -> Markup:
        width, bottom = self.left + WIDE * len(self.across), TOP + HIGH * len(self.down)
        marks = [svg.label(0, TOP - 12, shorten(self.rows, 24), "axis")] if self.rows else []
        for number, value in enumerate(self.across):
            x = self.left + WIDE * (number + 0.5)
            marks.append(svg.label(x, TOP - 12, shorten(value, 12), "tick", "middle"))
        for number, value in enumerate(self.down):
            y = TOP + HIGH * number
            if self.rows:
                marks.append(svg.label(0, y + HIGH / 2 + 4.5, shorten(value, 24), "tick"))
            for place, other in enumerate(self.across):
                marks += self._cell(cells.get((value, other)), self.left + WIDE * place, y)
        middle = self.left + WIDE * len(self.across) / 2
        marks.append(svg.label(middle, bottom + 18, shorten(self.columns, 40), "axis", "middle"))
        return svg.picture(
            identity,
            f"Difference in {self.metric.label}{', ' + title if title else ''}",
            self._said(cells),
            width,
            bottom + 26,
            marks,
            natural=True,
        )

    def _cell(self, each: SettingDifference | None, x: float, y: float) -> list[Markup]:
        middle, size = x + WIDE / 2, {"x": x + 1.5, "y": y + 1.5, "width": WIDE - 3, "height": HIGH - 3}
        if each is None:  # no setting of the grid
            return []
        if each.mean is None or not drawable(each.mean):
            return [
                svg.element("rect", class_="cell empty", **size),
                svg.label(middle, y + HIGH / 2 + 4, "no pair", "small muted", "middle"),
            ]
        text = decimal(each.mean, self.metric.decimals, signed=True)
        marks = [
            svg.element("rect", class_=f"cell {shade(each.mean, self.largest)}", **size),
            svg.label(
                middle, y + HIGH / 2 + (0 if each.n < len(each.values) else 4.5), text, "number", "middle"
            ),
        ]
        if each.n < len(each.values):
            said = f"{each.n} of {plural(len(each.values), 'pair')}"
            marks.append(svg.label(middle, y + HIGH / 2 + 15, said, "small", "middle"))
        return marks

    def _said(self, cells: dict[Place, SettingDifference]) -> str:
        known = {place: d.mean for place, d in cells.items() if d.mean is not None and drawable(d.mean)}
        if not known:
            return "No setting has a complete pair of runs."
        ends = []
        for word, place in (
            ("lowest", min(known, key=lambda p: known[p])),
            ("highest", max(known, key=lambda p: known[p])),
        ):
            names = zip((self.rows, self.columns), place, strict=True)
            at = ", ".join(f"{axis} {shorten(value, 40)}" for axis, value in names if axis)
            ends.append(f"{word} {decimal(known[place], self.metric.decimals, signed=True)} at {at}")
        return f"{titled(self.metric)}: {'; '.join(ends)}. The table of means gives the numbers."


def _key(largest: float, metric: Metric) -> Markup:
    """The shades from one end to the other, with their numbers."""
    names = (
        [f"down-{step}" for step in range(STEPS, 0, -1)]
        + ["level"]
        + [f"up-{step}" for step in range(1, STEPS + 1)]
    )
    size = 26.0
    marks = [
        svg.element("rect", x=24 + size * number, y=0, width=size, height=12, class_=f"cell {name}")
        for number, name in enumerate(names)
    ]
    ends = (decimal(-largest, metric.decimals), "0", decimal(largest, metric.decimals, signed=True))
    for number, text in zip((0, len(names) / 2, len(names)), ends, strict=True):
        marks.append(svg.label(24 + size * number, 27, text, "tick", "middle"))
    return svg.picture(
        "figure-heat-key",
        "Colour key",
        f"From {ends[0]} to {ends[2]}.",
        48 + size * len(names),
        32,
        marks,
        natural=True,
    )
