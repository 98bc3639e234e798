"""The Bayesian signed-rank test: probabilities of worse, practically equal and better."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from analysis.inference.signed_rank import finite
from analysis.results.model import BayesianSignedRank

CHUNK = 2**18  # weights at a time


def bayesian_signed_rank(
    differences: Iterable[float],
    *,
    rope: float,
    rng: np.random.Generator,
    prior_strength: float = 0.5,
    draws: int = 50_000,
    decimals: int = 9,
) -> BayesianSignedRank:
    """Probability that the mean of two new settings' differences is most likely below, within or above +-rope.

    Args:
        differences: one per setting [n].
        rope: half-width of the region of practical equivalence, at least 0.
        rng: source of the draws; the only randomness.
        prior_strength: weight of the prior, a pseudo-difference of 0; a difference has weight 1.
        draws: from the posterior, at least 1.
        decimals: sums are rounded to this before they are compared with the rope: binary noise breaks no tie.

    Returns:
        The share of draws in which each region has the largest probability.

    Raises:
        ValueError: no differences, a value that is not finite, a negative rope, no prior or no draws.

    Source: Benavoli, Corani, Demsar & Zaffalon (2017), JMLR 18(77); prior and ties as in `baycomp` 1.0.3.
    """
    d = finite(differences)
    shares = posterior_shares(
        d, rope=rope, rng=rng, prior_strength=prior_strength, draws=draws, decimals=decimals
    )
    below, within, above = (np.bincount(shares.argmax(axis=1), minlength=3) / draws).tolist()
    return BayesianSignedRank(
        n=len(d),
        rope=rope,
        p_below=below,
        p_within=within,
        p_above=above,
        prior_strength=prior_strength,
        draws=draws,
        standard_error=max((p * (1 - p) / draws) ** 0.5 for p in (below, within, above)),
    )


def posterior_shares(
    differences: Iterable[float],
    *,
    rope: float,
    rng: np.random.Generator,
    prior_strength: float = 0.5,
    draws: int = 50_000,
    decimals: int = 9,
) -> NDArray[np.float64]:
    """Draws of the probability of each region [draws, 3]: below -rope, within, above +rope; rows add up to 1.

    The distribution of differences has a Dirichlet process as prior, so that the observed ones (and 0, the prior's)
    have weights w ~ Dirichlet(prior_strength, 1, ..., 1). The share above is sum_ij w_i w_j [z_i + z_j > 2 rope], half
    where they are equal. Arguments and errors as for `bayesian_signed_rank`.

    Source: Benavoli, Mangili, Corani, Zaffalon & Ruggeri (2014), ICML 2014.
    """
    d = finite(differences)
    if not rope >= 0:
        raise ValueError(f"rope must be at least 0, got {rope}")
    if not prior_strength > 0 or draws < 1:
        raise ValueError(f"need a prior strength above 0 and a draw, got {prior_strength} and {draws}")
    z = np.concatenate(([0.0], d))
    prior = np.concatenate(([prior_strength], np.ones(len(d))))
    sides = [_beyond(side, 2 * rope, decimals) for side in (-z, z)]
    shares = np.empty((draws, 3))
    size = max(1, CHUNK // len(z))
    for begin in range(0, draws, size):
        part = shares[begin : begin + size]
        weights = rng.dirichlet(prior, size=len(part))
        for column, (order, nearer, at_most) in zip((0, 2), sides, strict=True):
            ours = weights[:, order]
            up_to = np.zeros((len(ours), len(z) + 1))  # the weight of the first k in order
            ours.cumsum(axis=1, out=up_to[:, 1:])
            within = (up_to[:, nearer] + up_to[:, at_most]) / 2  # half where they are equal
            part[:, column] = np.einsum("bi,bi->b", ours, up_to[:, -1:] - within)
    shares[:, 1] = 1 - shares[:, 0] - shares[:, 2]
    return shares


def _beyond(
    z: NDArray[np.float64], limit: float, decimals: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """An order of z, and for each z_i in it how many z_j, in it, have z_i + z_j below the limit, and at most there.

    A table of all sums would take gigabytes of ten thousand differences.
    """
    order = z.argsort()
    ordered = z[order]
    rows = (np.round(one + ordered - limit, decimals) for one in ordered)
    found = np.array([(row.searchsorted(0.0, "left"), row.searchsorted(0.0, "right")) for row in rows])
    return order, found[:, 0], found[:, 1]
