"""Inline SVG, escaped by construction. Colours are classes of the style sheet, in light and in dark."""

from __future__ import annotations

from markupsafe import Markup, escape

from reports.render.text import clean, shorten

Attribute = str | float | None


def element(tag: str, *children: Markup | str, **attributes: Attribute) -> Markup:
    """One element: `class_` is class, `text_anchor` is text-anchor; text children are cleaned and escaped."""
    pairs = Markup("").join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), _attribute(value))
        for name, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(
        child if isinstance(child, Markup) else escape(clean(shorten(child))) for child in children
    )
    if not children:
        return Markup(f"<{tag}{pairs}/>")
    return Markup(f"<{tag}{pairs}>{inner}</{tag}>")


def picture(
    name: str,
    title: str,
    description: str,
    width: float,
    height: float,
    content: list[Markup],
    *,
    natural: bool = False,
) -> Markup:
    """A whole figure with its title and description for those who do not see it; `natural`: it does not stretch."""
    return element(
        "svg",
        element("title", title, id=f"{name}-title"),
        element("desc", description, id=f"{name}-desc"),
        *content,
        class_="figure natural" if natural else "figure",
        width=width if natural else None,
        height=height if natural else None,
        role="img",
        viewBox=f"0 0 {_attribute(width)} {_attribute(height)}",
        aria_labelledby=f"{name}-title {name}-desc",
    )


def label(x: float, y: float, text: str, class_: str = "", anchor: str | None = None) -> Markup:
    """A line of text; `anchor` is start, middle or end."""
    return element("text", text, x=x, y=y, class_=class_ or None, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def polygon(corners: list[tuple[float, float]], class_: str) -> Markup:
    """A closed area."""
    points = " ".join(f"{_attribute(x)},{_attribute(y)}" for x, y in corners)
    return element("polygon", points=points, class_=class_)


def diamond(x: float, y: float, radius: float, class_: str) -> Markup:
    """A square on its corner."""
    return polygon([(x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y)], class_)


def path(points: list[tuple[float, float] | None]) -> str:
    """The `d` of a line through points; `None` lifts the pen, and a lone point becomes a dot."""
    parts: list[str] = []
    drawn = 0
    for index, point in enumerate(points):
        if point is None:
            drawn = 0
            continue
        parts.append(f"{'L' if drawn else 'M'}{_attribute(point[0])} {_attribute(point[1])}")
        drawn += 1
        alone = drawn == 1 and (index + 1 == len(points) or points[index + 1] is None)
        if alone:
            parts.append("h0")
    return "".join(parts)


def _attribute(value: Attribute) -> str:
    if isinstance(value, str):
        return clean(shorten(value, 1_000_000))
    return f"{value:.1f}".removesuffix(".0")
