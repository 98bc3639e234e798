"""Wilcoxon's signed-rank test, with ties and zeros, given their places."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from analysis.rank_sums import at_most, method_of
from analysis.results import Alternative, SignedRank, ZeroMethod


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
