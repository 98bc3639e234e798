"""Practical equivalence: two one-sided tests, which is an interval inside +-margin."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from analysis.inference.intervals import WalshAverages, hodges_lehmann
from analysis.inference.signed_rank import at_most, finite
from analysis.results.model import Equivalence
from analysis.results.values import Interval


def within_margin(interval: Interval, margin: float) -> bool | None:
    """Whether an interval lies inside (-margin, +margin); None without an interval.

    At confidence 1 - 2 alpha this is the outcome of two one-sided tests at alpha.

    Raises:
        ValueError: a margin that is not above 0.

    Source: Schuirmann (1987), J. Pharmacokinet. Biopharm. 15:657.
    """
    if not margin > 0:
        raise ValueError(f"the margin of equivalence must be above 0, got {margin}")
    if interval.low is None or interval.high is None:
        return None
    return -margin < interval.low and interval.high < margin


def equivalence_test(differences: Iterable[float], margin: float, alpha: float = 0.05) -> Equivalence:
    """Two one-sided signed-rank tests of seed-averaged differences against -margin and +margin.

    Each p-value is P(T <= t) under the null distribution without ties, t the number of Walsh averages on the wrong side
    of the margin: W- of the differences + margin, W+ of the differences - margin. So the decision is the same as by the
    Hodges-Lehmann interval at 1 - 2 alpha, ties or not (with ties it is conservative).

    Args:
        differences: one per setting [n].
        margin: half-width of practical equivalence, above 0.
        alpha: level of each test, in (0, 0.5).

    Returns:
        Both p-values and the decision; where n is too small to show equivalence at alpha, None and the reason.

    Raises:
        ValueError: no differences, a value that is not finite, a margin or an alpha out of range.

    Source: Schuirmann (1987), J. Pharmacokinet. Biopharm. 15:657, with signed-rank tests for its t tests.
    """
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must be between 0 and 0.5, got {alpha}")
    d = finite(differences)
    interval = hodges_lehmann(d, 1 - 2 * alpha)
    equivalent = within_margin(interval, margin)
    ranks = np.arange(1, len(d) + 1)
    # Walsh averages >= margin are those of -d that are <= -margin.
    p_above, p_below = (at_most(ranks, WalshAverages(side).at_most(-margin)) for side in (d, -d))
    return Equivalence(
        margin=margin,
        alpha=alpha,
        interval=interval,
        p_above=p_above,
        p_below=p_below,
        p_value=max(p_above, p_below),
        equivalent=equivalent,
        reason=None
        if equivalent is not None
        else f"equivalence cannot be shown with {len(d)} settings: the smallest p is {0.5 ** len(d):.4g}",
    )
