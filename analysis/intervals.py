"""Estimates, intervals and effect sizes of paired differences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from analysis.rank_sums import critical_sum
from analysis.results import Alternative, Interval
from analysis.signed_rank import finite
from analysis.walsh import WalshAverages


def hodges_lehmann(differences: Iterable[float], confidence: float = 0.95) -> Interval:
    """Hodges-Lehmann estimate of the centre with the interval that inverts the signed-rank test.

    The estimate is the median of the M = n (n + 1) / 2 Walsh averages w(1) <= ... <= w(M); the interval is
    [w(q), w(M + 1 - q)], two-sided, with q the largest that keeps `confidence`.

    Args:
        differences: paired differences [n], one per unit.
        confidence: nominal level in (0, 1).

    Returns:
        Estimate and interval in the unit of the differences, with the achieved level: 1 - 2 P(T <= q - 1)
        under the null distribution without ties, at least `confidence`. With ties the level is conservative.
        Where n is too small for the level, `low`, `high` and `achieved` are None and `reason` says what could
        be reached.

    Raises:
        ValueError: no differences, a value that is not finite, a confidence outside (0, 1).

    Source: Hollander & Wolfe (1973), chapter 3; bounds as in R's `wilcox.test(conf.int = TRUE)`.
    """
    _check_level(confidence)
    d = finite(differences)
    n = len(d)
    walsh, pairs = WalshAverages(d), n * (n + 1) // 2
    estimate = walsh.smallest((pairs + 1) // 2) / 2 + walsh.smallest(pairs // 2 + 1) / 2
    method = "Hodges-Lehmann, order statistics of the Walsh averages"

    q, below = critical_sum(n, (1 - confidence) / 2)
    if q == 0:
        widest = f"{100 * (1 - 2 * 0.5**n):.4g}%"
        return Interval(
            estimate=estimate,
            low=None,
            high=None,
            confidence=confidence,
            achieved=None,
            method=method,
            reason=f"{100 * confidence:g}% cannot be had with n = {n}: the widest interval reaches {widest}",
        )
    return Interval(
        estimate=estimate,
        low=walsh.smallest(q),
        high=walsh.smallest(pairs + 1 - q),
        confidence=confidence,
        achieved=1 - 2 * below,
        method=method,
    )


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Share of successes with its exact binomial interval (at least `confidence`, conservative).

    Args:
        successes: number of successes, 0 to n.
        n: number of trials, at least 1.
        confidence: nominal level in (0, 1).

    Returns:
        Shares in [0, 1].

    Raises:
        ValueError: counts out of range or a confidence outside (0, 1).

    Source: Clopper & Pearson (1934), Biometrika 26:404, by quantiles of the beta distribution.
    """
    _check_level(confidence)
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"need 0 <= successes <= n and n >= 1, got {successes} of {n}")
    from scipy.special import betaincinv  # slow to import

    tail = (1 - confidence) / 2
    return Interval(
        estimate=successes / n,
        low=float(betaincinv(successes, n - successes + 1, tail)) if successes else 0.0,
        high=float(betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0,
        confidence=confidence,
        achieved=None,  # depends on the unknown share
        method="Clopper-Pearson",
    )


def sign_test(won: int, lost: int, alternative: Alternative = "two-sided") -> float:
    """Exact p-value of the sign test: wins ~ Binomial(won + lost, 1/2); ties are left out.

    Args:
        won: units with a positive difference.
        lost: units with a negative one.
        alternative: "greater": wins are more likely than losses.

    Returns:
        The p-value; 1 when there are neither wins nor losses.

    Raises:
        ValueError: a negative count or an unknown alternative.

    Source: Dixon & Mood (1946), JASA 41:557.
    """
    if won < 0 or lost < 0:
        raise ValueError(f"counts must be >= 0, got {won} won and {lost} lost")
    if alternative not in get_args(Alternative):
        raise ValueError(
            f"alternative must be one of {', '.join(get_args(Alternative))}, got {alternative!r}"
        )
    n = won + lost

    def at_most(k: int) -> float:
        ways = patterns = 1  # math.comb(n, 0), and the sum so far
        for i in range(k):
            ways = ways * (n - i) // (i + 1)
            patterns += ways
        return float(patterns / 2**n)

    if alternative == "greater":
        return at_most(lost)
    if alternative == "less":
        return at_most(won)
    return min(1.0, 2 * at_most(min(won, lost)))


def rank_biserial(w_plus: float, w_minus: float) -> float | None:
    """Matched-pairs rank-biserial correlation (W+ - W-) / (W+ + W-), in [-1, 1]; None when both sums are 0.

    Source: Kerby (2014), Comprehensive Psychology 3:11.IT.3.1.
    """
    total = w_plus + w_minus
    return (w_plus - w_minus) / total if total else None


def _check_level(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
