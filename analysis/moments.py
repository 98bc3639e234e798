"""Mean and standard deviation of a few values, without numpy: `status` shows them of thousands of cells."""

from __future__ import annotations

import math
from collections.abc import Sequence


def mean(values: Sequence[float]) -> float | None:
    """Arithmetic mean [unit of the values]; None of no values."""
    return math.fsum(values) / len(values) if values else None


def sd(values: Sequence[float]) -> float | None:
    """Standard deviation with ddof = 1 [unit of the values]; None of fewer than 2: undefined, not 0."""
    if len(values) < 2:
        return None
    centre = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - centre) * (value - centre) for value in values) / (len(values) - 1))
