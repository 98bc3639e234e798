"""Several p-values at once: adjusted ones, and "better in at least u of K settings".

One primary comparison is declared and needs none of this. Holm is for confirmatory secondary comparisons,
Benjamini-Hochberg for exploration, Benjamini-Yekutieli where the dependence of the tests is unclear.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from analysis.results.model import Frozen


class Adjusted(Frozen):
    """p-values adjusted within one family, in the order given."""

    method: Literal["Holm", "Benjamini-Hochberg"]
    controls: Literal["family-wise error rate", "false discovery rate"]
    p_values: list[float | None]
    adjusted: list[float | None]  # <= alpha: rejected at alpha; None where there is no p-value
    family: int  # tests in the family, those without a p-value included


def holm(p_values: Sequence[float | None]) -> Adjusted:
    """Step-down adjustment that controls the family-wise error rate under any dependence.

    The i-th smallest of m p-values becomes max over j <= i of min(1, (m - j + 1) p_(j)).

    Args:
        p_values: in [0, 1]; None, a test that could not be made, stays None and counts in m as a p of 1.

    Raises:
        ValueError: a value outside [0, 1].

    Source: Holm (1979), Scand. J. Statist. 6:65.
    """
    p = _check(p_values)
    m = len(p)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate((m - np.arange(m)) * p[order])
    return _adjusted("Holm", "family-wise error rate", p_values, order, stepped)


def benjamini_hochberg(p_values: Sequence[float | None]) -> Adjusted:
    """Step-up adjustment that controls the false discovery rate of independent or positively dependent tests.

    The i-th smallest of m p-values becomes min over j >= i of min(1, m p_(j) / j). Arguments and errors as for `holm`.

    Source: Benjamini & Hochberg (1995), JRSS B 57:289.
    """
    p = _check(p_values)
    m = len(p)
    order = np.argsort(p, kind="stable")
    stepped = np.minimum.accumulate((m / np.arange(1, m + 1) * p[order])[::-1])[::-1]
    return _adjusted("Benjamini-Hochberg", "false discovery rate", p_values, order, stepped)


def _adjusted(
    method: Literal["Holm", "Benjamini-Hochberg"],
    controls: Literal["family-wise error rate", "false discovery rate"],
    p_values: Sequence[float | None],
    order: NDArray[np.intp],
    stepped: NDArray[np.float64],
) -> Adjusted:
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(1.0, stepped)
    return Adjusted(
        method=method,
        controls=controls,
        p_values=list(p_values),
        adjusted=[None if p is None else float(a) for p, a in zip(p_values, adjusted, strict=True)],
        family=len(order),
    )


def _check(p_values: Sequence[float | None]) -> NDArray[np.float64]:
    p = np.array([1.0 if value is None else value for value in p_values], dtype=np.float64)
    for place in np.flatnonzero(~((p >= 0) & (p <= 1))):  # NaN is outside too
        raise ValueError(f"p-values must be between 0 and 1, got {p[place]} at position {place}")
    return p
