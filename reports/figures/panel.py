"""A small chart of two axes with its legend, and what every figure has: a heading, the picture, notes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from reports.figures import svg
from reports.figures.scale import Scale, fit, tick_label
from reports.render.cells import Missing
from reports.render.formats import ARM_STYLES
from reports.render.text import shorten

WIDTH, LEFT, RIGHT, BOTTOM = 520.0, 58.0, 14.0, 46.0
LEGEND_ROW = 20.0
LETTER = 7.6  # of a legend's words, at most on average


@dataclass(frozen=True)
class Figure:
    """A figure on the page."""

    title: str
    picture: Markup | Missing
    notes: list[str]


def line_key(style: int, x: float, y: float) -> Markup:
    """An arm's thick line, in a legend."""
    return svg.line(x, y, x + 30, y, f"average arm-{style}")


class Panel:
    """Scales, frame and legend of one chart; arms in the legend stand in as many rows as they need."""

    def __init__(
        self,
        arms: Sequence[tuple[str, int]],
        *,
        height: float = 320.0,
        titled: bool = False,
        key: Callable[[int, float, float], Markup] = line_key,
        key_width: float = 30.0,
    ) -> None:
        """Place the legend.

        Args:
            arms: names with the numbers of their styles, in order.
            height: of the chart where the legend has one row.
            titled: whether the y axis has a title, which stands above it.
            key: draws an arm's mark in the legend.
            key_width: how wide that mark is.
        """
        self.legend: list[Markup] = []
        self.notes = []
        if len(arms) > ARM_STYLES:
            self.notes.append(
                f"{len(arms)} arms share {ARM_STYLES} styles; point at a mark or a thin line for its arm."
            )
        x, y = LEFT, 16.0
        for arm, style in arms:
            words = shorten(arm, 22)
            width = key_width + 8 + LETTER * len(words)
            if x > LEFT and x + width > WIDTH:
                x, y = LEFT, y + LEGEND_ROW
            self.legend += [key(style, x, y), svg.label(x + key_width + 8, y + 4.5, words, "legend")]
            x += width + 24
        self.top = y + 24 + (16 if titled else 0)
        self.height = height + self.top - 40
        self.floor = self.height - BOTTOM

    def across(self, values: list[float], padding: float = 0.03) -> Scale:
        """The x axis."""
        return fit(values, LEFT, WIDTH - RIGHT, padding=padding)

    def up(self, values: list[float], *, log: bool = False) -> Scale:
        """The y axis."""
        return fit(values, self.floor, self.top, log=log)

    def frame(
        self, x: Scale, y: Scale, x_title: str, y_title: str = "", *, counts: bool = True
    ) -> list[Markup]:
        """Grid, ticks and titles of the axes; `counts`: the x axis counts something, in whole numbers."""
        edge = WIDTH - RIGHT
        marks = []
        for tick in y.ticks(5):
            marks.append(svg.line(LEFT, y(tick), edge, y(tick), "grid"))
            marks.append(svg.label(LEFT - 8, y(tick) + 4, tick_label(tick), "tick", "end"))
        for tick in x.ticks(6 if counts else 5):
            if counts and tick != round(tick):
                continue
            if not counts:
                marks.append(svg.line(x(tick), self.top, x(tick), self.floor, "grid"))
            marks.append(svg.label(x(tick), self.floor + 18, tick_label(tick), "tick", "middle"))
        marks.append(svg.line(LEFT, self.floor, edge, self.floor, "base"))
        marks.append(svg.label((LEFT + edge) / 2, self.height - 8, shorten(x_title, 50), "axis", "middle"))
        if y_title:
            marks.append(svg.label(0, self.top - 12, shorten(y_title, 50), "axis"))
        return marks

    def level(self, value: float, y: Scale, class_: str) -> Markup:
        """A line across the chart."""
        return svg.line(LEFT, y(value), WIDTH - RIGHT, y(value), class_)

    def picture(self, identity: str, title: str, description: str, marks: list[Markup]) -> Markup:
        """The chart, with its legend on top."""
        return svg.picture(identity, title, description, WIDTH, self.height, [*marks, *self.legend])
