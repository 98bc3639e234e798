"""Estimates, intervals and effect sizes of paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.inference.signed_rank import critical_sum, finite
from analysis.results.model import Alternative, Interval, ProbabilityOfImprovement, SettingsWon

# Walsh averages (d_i + d_j) / 2, i <= j, of paired differences: counts and order statistics.

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
            reason=f"with n = {n} no interval reaches {100 * confidence:g}%: the widest reaches {widest}",
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


# Further effect sizes: settings won, and the probability of improvement.


def settings_won(
    differences: Sequence[float],
    *,
    higher_is_better: bool = True,
    decimals: int = 9,
    confidence: float = 0.95,
) -> SettingsWon:
    """Settings that the candidate wins, with the exact sign test and the exact interval of the share.

    7 of 9, or more extreme, happens 18% of the time by chance, and 60% of the time when the settings share a seed
    effect as large as the spread of their means.

    Args:
        differences: candidate minus baseline, one per setting [n].
        higher_is_better: whether a positive difference is won.
        decimals: differences are rounded to this before their signs are taken.
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: no differences, a value that is not finite, a confidence outside (0, 1).

    Source: Dixon & Mood (1946), JASA 41:557; Clopper & Pearson (1934), Biometrika 26:404.
    """
    signs = np.sign(np.round(finite(differences), decimals)) * (1 if higher_is_better else -1)
    won, lost = int((signs > 0).sum()), int((signs < 0).sum())
    return SettingsWon(
        won=won,
        tied=len(signs) - won - lost,
        lost=lost,
        share=clopper_pearson(won, won + lost, confidence) if won + lost else None,
        p_value=sign_test(won, lost),
        reason=None if won + lost else "every difference is 0",
    )


def probability_of_improvement(
    candidate: ArrayLike, baseline: ArrayLike, *, higher_is_better: bool = True
) -> ProbabilityOfImprovement:
    """P(candidate's run > baseline's run) + P(equal) / 2 at each setting, averaged over settings.

    All pairs of seeds of a setting are compared: the Mann-Whitney statistic over its maximum. No interval is given: the
    bootstrap over seeds that is usual covers far less than it says with 3 seeds.

    Args:
        candidate: values [settings, seeds]; NaN: no value.
        baseline: values [settings, seeds], the same settings; the seeds may differ.
        higher_is_better: whether larger values improve.

    Raises:
        ValueError: tables with different numbers of settings, or infinite values.

    Source: Agarwal et al. (2021), NeurIPS, "Deep RL at the edge of the statistical precipice".
    """
    ours, theirs = (np.array(values, dtype=np.float64) for values in (candidate, baseline))
    if ours.ndim != 2 or theirs.ndim != 2 or len(ours) != len(theirs):
        raise ValueError(
            f"need two tables [settings, seeds] of the same settings, got {ours.shape} and {theirs.shape}"
        )
    if np.isinf(ours).any() or np.isinf(theirs).any():
        raise ValueError("values must be finite or NaN")
    by_setting: list[float | None] = []
    for a, b in zip(ours, theirs, strict=True):
        signs = np.sign(a[~np.isnan(a)][:, None] - b[~np.isnan(b)])
        by_setting.append(float((signs.mean() + 1) / 2) if signs.size else None)
    if not higher_is_better:
        by_setting = [None if share is None else 1 - share for share in by_setting]
    known = [share for share in by_setting if share is not None]
    return ProbabilityOfImprovement(
        estimate=float(np.mean(known)) if known else None,
        by_setting=by_setting,
        settings=len(known),
        reason=None if known else "no setting has runs of both arms",
    )
