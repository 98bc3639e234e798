"""Walsh averages (d_i + d_j) / 2, i <= j, of paired differences: counts and order statistics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Of more differences the averages are not held: 2,000 have 2 million.
MOST_HELD = 2000


class WalshAverages:
    """The M = n (n + 1) / 2 averages of pairs of n differences, each with itself too.

    Beyond `MOST_HELD` differences nothing is stored but the differences: each answer is found by bisection, in
    n log n steps a round, and is the same to the last bit.
    """

    def __init__(self, differences: NDArray[np.float64]) -> None:
        # Halves are added, since the sum of two large values may overflow.
        self._halves = np.sort(differences) / 2
        self._held = None
        if len(differences) <= MOST_HELD:
            first, second = np.triu_indices(len(differences))
            self._held = np.sort(self._halves[first] + self._halves[second])

    def at_most(self, value: float) -> int:
        """How many averages are at most `value`."""
        if self._held is not None:
            return int(np.searchsorted(self._held, value, side="right"))
        halves, n = self._halves, len(self._halves)
        # Of each i, the first j >= i whose average is above: sums of sorted halves never fall as j grows.
        low, high = np.arange(n), np.full(n, n)
        while (searched := low < high).any():
            middle = (low + high) // 2
            within = halves + halves[np.minimum(middle, n - 1)] <= value
            low, high = (
                np.where(searched & within, middle + 1, low),
                np.where(searched & ~within, middle, high),
            )
        return int((low - np.arange(n)).sum())

    def smallest(self, place: int) -> float:
        """The average at `place` in ascending order, 1 .. M."""
        if self._held is not None:
            return float(self._held[place - 1])
        low, high = _place(self._halves[0] * 2), _place(self._halves[-1] * 2)
        while low < high:  # at most 64 rounds: the floats between the smallest and the largest
            middle = (low + high) // 2
            low, high = (low, middle) if self.at_most(_float(middle)) >= place else (middle + 1, high)
        return _float(low)


def _place(value: float) -> int:
    """A float's place among all floats in ascending order, 0 for 0.0."""
    bits = int(np.float64(value).view(np.int64))
    return bits if bits >= 0 else -(bits & 0x7FFF_FFFF_FFFF_FFFF)


def _float(place: int) -> float:
    return float(np.int64(abs(place)).view(np.float64)) * (1 if place >= 0 else -1)
