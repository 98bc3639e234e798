"""Axes: from values to positions on the page, with ticks at round numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reports.render.formats import MINUS

# Beyond this a double cannot be scaled safely; such values are not drawn, and the figure says so.
LARGEST = 1e100


@dataclass(frozen=True)
class Scale:
    """A linear or log10 axis from `low`..`high` (values) to `start`..`end` (pixels)."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The position of a value; on a log axis the value must be above 0."""
        low, high, here = (
            (math.log10(self.low), math.log10(self.high), math.log10(value))
            if self.log
            else (self.low, self.high, value)
        )
        return self.start + (here - low) / (high - low) * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round values inside the axis."""
        return _log_ticks(self.low, self.high) if self.log else _linear_ticks(self.low, self.high, about)


def fit(values: list[float], start: float, end: float, *, log: bool = False, padding: float = 0.06) -> Scale:
    """The axis that holds all values with a little room; a single value gets room around it."""
    if not values:
        return Scale(1, 10, start, end, True) if log else Scale(0, 1, start, end)
    low, high = min(values), max(values)
    if log:
        low, high = math.log10(low), math.log10(high)
    room = (high - low) * padding or max(abs(high) * padding, 0.1 if log else 1e-9)
    low, high = low - room, high + room
    return Scale(10**low, 10**high, start, end, True) if log else Scale(low, high, start, end)


def drawable(value: float | None, *, log: bool = False) -> bool:
    """Whether a value has a place on an axis."""
    return value is not None and abs(value) <= LARGEST and (not log or value > 1 / LARGEST)


def tick_label(value: float) -> str:
    """A tick's number: short, with a real minus sign."""
    return f"{value:.6g}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e").replace("-", MINUS)


def _linear_ticks(low: float, high: float, about: int) -> list[float]:
    rough = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12 - math.floor(math.log10(step))) for index in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        inside = [factor * 10.0**decade for decade in decades for factor in factors]
        inside = [float(f"{tick:.6g}") for tick in inside if low <= tick <= high]
        if len(inside) >= 3:
            stride = math.ceil(len(inside) / 7)
            return inside[::stride]
    return _linear_ticks(low, high, 4)
