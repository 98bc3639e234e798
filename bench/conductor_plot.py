"""The growth that `conductor.py` measured, as a picture: CPU seconds over runs, both in powers of ten."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from reports.figures.svg import element

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 420, 60, 220, 20, 50
RUNS, SECONDS = (2, 5), (-1, 4)  # powers of ten from left to right and from bottom to top
COLOURS = ("#1b6ca8", "#c2571a", "#2a8c55", "#8a4fb0", "#b0304f", "#5a5a5a", "#b08a00", "#00838f")


def growth(sizes: Mapping[str, Mapping[str, Any]]) -> str:
    """An SVG with a line for every verb.

    Args:
        sizes: number of runs -> verb -> what was measured; what has no CPU seconds is left out.
    """
    verbs = list(
        dict.fromkeys(v for one in sizes.values() for v, found in one.items() if "cpu" in _dict(found))
    )
    parts = [element("rect", width=WIDTH, height=HEIGHT, fill="#ffffff")]
    for power in range(RUNS[0], RUNS[1] + 1):
        x = _x(10.0**power)
        parts.append(element("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, stroke="#dddddd"))
        parts.append(_text(x, HEIGHT - BOTTOM + 18, f"{10**power:,}", "middle"))
    for power in range(SECONDS[0], SECONDS[1] + 1):
        y = _y(10.0**power)
        parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, stroke="#dddddd"))
        parts.append(_text(LEFT - 6, y + 4, f"{10.0**power:g}", "end"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "runs", "middle"))
    parts.append(_text(LEFT, TOP - 6, "CPU seconds", "start"))
    for number, verb in enumerate(verbs):
        colour = COLOURS[number % len(COLOURS)]
        points = sorted(
            (int(size), max(one[verb]["cpu"], 10.0 ** SECONDS[0]))
            for size, one in sizes.items()
            if verb in one
        )
        line = " ".join(f"{_x(size):.1f},{_y(cpu):.1f}" for size, cpu in points)
        parts.append(element("polyline", points=line, fill="none", stroke=colour, stroke_width=2))
        parts += [element("circle", cx=_x(size), cy=_y(cpu), r=3, fill=colour) for size, cpu in points]
        y = TOP + 14 + 18 * number
        parts.append(element("rect", x=WIDTH - RIGHT + 16, y=y - 8, width=12, height=4, fill=colour))
        parts.append(_text(WIDTH - RIGHT + 34, y, verb, "start"))
    view = f"0 0 {WIDTH} {HEIGHT}"
    return f"{element('svg', *parts, xmlns='http://www.w3.org/2000/svg', viewBox=view)}\n"


def _dict(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, dict) else {}


def _x(runs: float) -> float:
    share = (math.log10(runs) - RUNS[0]) / (RUNS[1] - RUNS[0])
    return LEFT + share * (WIDTH - RIGHT - LEFT)


def _y(seconds: float) -> float:
    share = (math.log10(seconds) - SECONDS[0]) / (SECONDS[1] - SECONDS[0])
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def _text(x: float, y: float, said: str, anchor: str) -> Any:
    return element("text", said, x=x, y=y, font_size=12, font_family="sans-serif", text_anchor=anchor)
