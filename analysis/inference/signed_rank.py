"""Wilcoxon's signed-rank test, with ties and zeros, given their places."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.results.model import Alternative, SignedRank, ZeroMethod

# Null distribution of sums of positive ranks, where each sign is as likely as the other.

MOST_EXACT = 2000
# Sums of ranks up to this are counted in integers. Beyond it (some 300 differences with ties, 440 without) that would
# take minutes and gigabytes; in floating point the probabilities are off by less than 1 part in 10^12.
MOST_COUNTED = 100_000
EXACT = "exact (dynamic programming over mid-ranks)"
APPROXIMATE = (
    "saddlepoint approximation (more than 2,000 differences; relative error below 10⁻⁶ without ties)"
)


def method_of(n: int) -> str:
    """How the probabilities of sums of n ranks are found, for people."""
    return EXACT if n <= MOST_EXACT else APPROXIMATE


def at_most(ranks: ArrayLike, k: int) -> float:
    """P(T <= k), T the sum of positive ranks.

    Args:
        ranks: positive integers [m]: ranks, or twice the mid-ranks where ties make halves.
        k: from 0 to the sum of the ranks.

    Returns:
        The probability, as exact as the module says.
    """
    each = np.asarray(ranks, dtype=np.int64)
    if len(each) <= MOST_EXACT:
        below, unit = null_below(each.tolist())
        return float(below[k // unit])
    unit = int(np.gcd.reduce(each))
    return _saddlepoint(each / unit, k // unit)


def critical_sum(n: int, tail: float) -> tuple[int, float]:
    """The largest q with P(T <= q - 1) <= tail, and that probability, for the ranks 1 .. n (no ties); 0 and 0: none."""
    if n <= MOST_EXACT:
        below, _ = null_below(range(1, n + 1))
        q = int(np.searchsorted(below, tail, side="right"))
        return q, float(below[q - 1]) if q else 0.0
    ranks = np.arange(1.0, n + 1)
    low, high = 0, n * (n + 1) // 2 + 1  # P(T <= low - 1) <= tail < P(T <= high - 1), tail < 1
    while high - low > 1:
        q = (low + high) // 2
        low, high = (q, high) if _saddlepoint(ranks, q - 1) <= tail else (low, q)
    return low, _saddlepoint(ranks, low - 1) if low else 0.0


def null_below(ranks: Sequence[int]) -> tuple[NDArray[np.float64], int]:
    """Distribution of the sum of positive ranks where each sign is as likely as the other.

    Args:
        ranks: positive integers [m]: ranks, or twice the mid-ranks where ties make halves.

    Returns:
        P(T <= k u) for k = 0, 1, ... up to sum(ranks) / u, and u, the ranks' greatest common divisor.
    """
    unit = math.gcd(*ranks) or 1
    return _below(tuple(sorted(rank // unit for rank in ranks))), unit


# The tests around one comparison ask for the same distribution again and again.
@lru_cache(maxsize=8)
def _below(ranks: tuple[int, ...]) -> NDArray[np.float64]:
    total = sum(ranks)
    if total <= MOST_COUNTED:
        # int / int is correctly rounded however large the integers are.
        found = np.array([count / 2 ** len(ranks) for count in accumulate(count_patterns(ranks))])
    else:
        found = _below_in_floats(ranks, total)
    found.setflags(write=False)
    return found


def _below_in_floats(ranks: tuple[int, ...], total: int) -> NDArray[np.float64]:
    half = total // 2
    counts, spare = np.ones(half + 1), np.empty(half + 1)  # patterns with a sum of at most k: of no rank, one
    reached, scale = 0, 1.0
    for rank in ranks:
        # Beyond, all patterns are within, or it follows from the other half.
        end = min(reached + rank, half) + 1
        counts[reached + 1 : end] = scale
        kept = min(rank, end)
        spare[:kept] = counts[:kept]
        np.add(counts[kept:end], counts[: end - kept], out=spare[kept:end])  # into another array: no copy
        counts, spare = spare, counts
        reached = end - 1
        scale *= 2
        if scale == 2.0**512:  # a power of 2, so no digit changes
            counts[:end] /= scale
            scale = 1.0
    found = np.ones(total + 1)
    found[: half + 1] = counts / scale
    found[half + 1 : total] = 1 - found[: total - 1 - half][::-1]
    return found


def count_patterns(ranks: Sequence[int]) -> list[int]:
    """Number of sign patterns that give each sum of positive ranks: the coefficients of prod_i (1 + x^rank_i).

    Args:
        ranks: positive integers [m].

    Returns:
        Counts [sum(ranks) + 1] that add up to 2^m.
    """
    # All coefficients side by side in one integer, each in as many bytes as 2^m needs.
    width = len(ranks) // 8 + 1
    polynomial = 1
    for rank in ranks:
        polynomial += polynomial << (8 * width * rank)
    written = polynomial.to_bytes(width * (sum(ranks) + 1), "little")
    return [int.from_bytes(written[at : at + width], "little") for at in range(0, len(written), width)]


def _saddlepoint(ranks: NDArray[np.float64], k: int) -> float:
    """P(T <= k) for many ranks without a common divisor; the centred sum's cumulants are sums of log cosh(r s / 2)."""
    from scipy.optimize import brentq  # slow to import
    from scipy.special import ndtr

    total = int(ranks.sum())
    if k >= total:
        return 1.0
    below_centre = k + 0.5 - total / 2  # half of a step of the lattice
    if below_centre > 0:
        return 1.0 - _saddlepoint(ranks, total - k - 1)
    variance = float(ranks @ ranks) / 4

    def slope(s: float) -> float:
        return float(ranks @ np.tanh(ranks * (s / 2))) / 2 - below_centre

    # The slope of the cumulants is convex below 0: the normal distribution's saddlepoint is not far enough.
    near = below_centre / variance
    while slope(near) > 0:
        near *= 2
    s = float(brentq(slope, near, 0.0, xtol=1e-300, rtol=1e-14)) if near else 0.0
    halves = np.abs(ranks * (s / 2))
    cumulants = float((halves + np.log1p(np.exp(-2 * halves)) - math.log(2)).sum())
    curvature = float(((ranks / np.cosh(np.minimum(halves, 300))) ** 2).sum()) / 4
    w = -math.sqrt(max(0.0, 2 * (s * below_centre - cumulants)))
    normal = float(ndtr(w))
    if w > -1e-3:  # 1/w - 1/u is near 0 there, and a difference of large numbers
        return normal
    u = 2 * math.sinh(s / 2) * math.sqrt(curvature)
    return normal + math.exp(-w * w / 2) / math.sqrt(2 * math.pi) * (1 / w - 1 / u)


def signed_rank_test(
    differences: Iterable[float],
    *,
    zero_method: ZeroMethod = "pratt",
    alternative: Alternative = "two-sided",
    decimals: int = 9,
) -> SignedRank:
    """Test that differences are symmetric about 0, conditionally on their absolute values.

    The null distribution of W+ puts 1/2^m on each sign pattern of the m non-zero differences. Up to 2,000 of them it
    is enumerated, so p is exact with ties and zeros too, where `scipy.stats.wilcoxon(method="exact")` is not; beyond,
    it is approximated as `rank_sums` says.

    Args:
        differences: paired differences [n], one per unit, in the metric's unit.
        zero_method: "pratt" ranks zeros with the others, then leaves their ranks out; "wilcox" drops them
            first; "zsplit" gives half of their ranks to either side.
        alternative: "greater": the differences tend to be above 0.
        decimals: differences are rounded to this many decimals before they are ranked, so that binary noise
            makes neither ties nor zeros disappear.

    Returns:
        W+, W-, p = min(1, 2 min(P(T <= W+), P(T >= W+))) and the smallest p that could have been reached:
        2/2^m two-sided, 1/2^m one-sided, and 1 when every difference is zero. Zeros lower m: they carry no
        sign. When all are zero, p = 1: the only possible outcome was observed.

    Raises:
        ValueError: no differences, a value that is not finite, an unknown `zero_method` or `alternative`.

    Source: Wilcoxon (1945), Biometrics Bulletin 1:80; Pratt (1959), JASA 54:655.
    """
    if zero_method not in get_args(ZeroMethod):
        raise ValueError(f"zero_method must be one of {', '.join(get_args(ZeroMethod))}, got {zero_method!r}")
    if alternative not in get_args(Alternative):
        raise ValueError(
            f"alternative must be one of {', '.join(get_args(Alternative))}, got {alternative!r}"
        )
    d = np.round(finite(differences), decimals)
    n_zeros = int((d == 0).sum())
    nonzero = d[d != 0]
    magnitudes = np.abs(nonzero)
    _, first_of, counts = np.unique(magnitudes, return_inverse=True, return_counts=True)

    # Twice the mid-rank of a group that takes ranks a+1 .. a+c is 2a + c + 1: an integer.
    doubled = (2 * (np.cumsum(counts) - counts) + counts + 1)[first_of]
    if zero_method != "wilcox":
        doubled = doubled + 2 * n_zeros  # zeros are the smallest, they take ranks 1 .. n_zeros
    observed = int(doubled[nonzero > 0].sum())
    total = int(doubled.sum())

    m = len(nonzero)
    lower = at_most(doubled, observed)
    upper = at_most(doubled, total - observed)  # the distribution is symmetric
    p_value = {"two-sided": min(1.0, 2 * min(lower, upper)), "greater": upper, "less": lower}[alternative]
    # Signs of zeros are not random, so their share moves both sums and no probability.
    split = n_zeros * (n_zeros + 1) / 4 if zero_method == "zsplit" else 0.0
    return SignedRank(
        n=len(d),
        zeros=n_zeros,
        ties=int(counts[counts > 1].sum()),
        w_plus=observed / 2 + split,
        w_minus=(total - observed) / 2 + split,
        p_value=p_value,
        smallest_p=min(1.0, (2 if alternative == "two-sided" else 1) / 2**m),
        alternative=alternative,
        zero_method=zero_method,
        method=method_of(m),
    )


def finite(differences: Iterable[float]) -> NDArray[np.float64]:
    """Differences as an array [n].

    Raises:
        ValueError: no differences, more than one dimension, or a value that is not finite.
    """
    d = np.array(list(differences), dtype=np.float64)
    if d.ndim != 1 or len(d) == 0:
        raise ValueError(f"need at least one difference in one dimension, got shape {d.shape}")
    for place in np.flatnonzero(~np.isfinite(d)):
        raise ValueError(f"differences must be finite, got {d[place]} at position {place}")
    return d
