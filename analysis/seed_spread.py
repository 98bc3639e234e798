"""Mean and SD over the seeds of one cell, with intervals that are honest at three seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable

from analysis.moments import mean, sd
from analysis.results import Frozen, Interval


class SeedSpread(Frozen):
    """Mean and SD over seeds, in the metric's unit."""

    n: int  # seeds with a value
    mean: Interval | None  # None where no seed has a value
    sd: Interval | None  # ddof = 1; None where fewer than 2 have one
    reason: str | None  # why something is None


def spread_over_seeds(values: Iterable[float | None], confidence: float = 0.95) -> SeedSpread:
    """Mean with its t interval and SD with its chi-square interval, over the seeds of one arm at one setting.

    Both assume that seeds are independent and about normal. The percentile bootstrap does not replace them: of its 95%
    intervals for a mean of 3 values 67% to 75% cover, depending on how quantiles are taken.

    Args:
        values: one per seed, in the metric's unit; None or NaN: no value, left out and not counted in n.
        confidence: of the two-sided intervals, in (0, 1).

    Returns:
        mean +- t s / sqrt(n) and [s sqrt((n-1) / chi2_upper), s sqrt((n-1) / chi2_lower)], both with n - 1 degrees of
        freedom. Without spread (equal values) there is an SD of 0 and no interval: it would claim certainty.

    Raises:
        ValueError: an infinite value or a confidence outside (0, 1).

    Source: Student (1908), Biometrika 6:1; interval of an SD: Casella & Berger (2002), chapter 9.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    known = [value for value in values if value is not None and not math.isnan(value)]
    if any(map(math.isinf, known)):
        raise ValueError(f"values must be finite, got {known}")
    n, centre, spread = len(known), mean(known), sd(known)
    if centre is None:
        return SeedSpread(n=n, mean=None, sd=None, reason="no seed has a value")
    if spread is None:
        reason = "an SD needs at least 2 seeds, got 1"
        return SeedSpread(n=n, mean=_interval(centre, None, confidence, "t", reason), sd=None, reason=reason)
    if max(known) == min(known):
        reason = f"all {n} values are equal: their spread says nothing about other seeds"
        return SeedSpread(
            n=n,
            mean=_interval(centre, None, confidence, "t", reason),
            sd=_interval(0.0, None, confidence, "chi-square", reason),
            reason=reason,
        )

    from scipy.special import chdtri, stdtrit  # slow to import

    tail = (1 - confidence) / 2
    half = float(stdtrit(n - 1, 1 - tail)) * spread / math.sqrt(n)
    low, high = (spread * math.sqrt((n - 1) / float(chdtri(n - 1, upper))) for upper in (tail, 1 - tail))
    return SeedSpread(
        n=n,
        mean=_interval(centre, (centre - half, centre + half), confidence, "t", None),
        sd=_interval(spread, (low, high), confidence, "chi-square", None),
        reason=None,
    )


def _interval(
    estimate: float, bounds: tuple[float, float] | None, confidence: float, method: str, reason: str | None
) -> Interval:
    low, high = bounds or (None, None)
    return Interval(
        estimate=estimate,
        low=low,
        high=high,
        confidence=confidence,
        achieved=None if bounds is None else confidence,  # exact for normal values
        method=f"{method}, exact for normal values",
        reason=reason,
    )
