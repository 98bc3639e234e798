import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.inference.bayes import CHUNK, BayesianSignedRank, bayesian_signed_rank, posterior_shares

# See test_signed_rank.py for where these come from.
DEPRESSION = [0.952, -0.147, 1.022, 0.43, 0.62, 0.59, 0.49, -0.08, 0.01]
PLANTS = [6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75]


@pytest.mark.parametrize(
    ("differences", "rope", "expected"),
    [
        # baycomp 1.0.3, SignedRankTest.sample(zeros, d, rope, nsamples=400000, random_state=1), winners
        (DEPRESSION, 0.3, (0.0, 0.28097, 0.71903)),
        (DEPRESSION, 0.5, (0.0, 0.73256, 0.26744)),
        (DEPRESSION, 0.0, (0.005815, 0.0, 0.994185)),
        (PLANTS, 10, (0.017978, 0.000125, 0.981898)),
        (PLANTS, 25, (0.000205, 0.48116, 0.518635)),
    ],
)
def test_baycomp(differences: list[float], rope: float, expected: tuple[float, float, float]) -> None:
    """Probabilities against those of baycomp, within 4 standard errors of the difference."""
    test = bayesian_signed_rank(differences, rope=rope, rng=np.random.default_rng(0))
    error = 4 * (0.25 / test.draws) ** 0.5  # 0.009
    assert (test.p_below, test.p_within, test.p_above) == pytest.approx(expected, abs=error)
    assert test.p_below + test.p_within + test.p_above == pytest.approx(1)
    assert BayesianSignedRank.model_validate_json(test.model_dump_json()) == test


def test_posterior_means() -> None:
    """Mean shares of the regions against the Dirichlet distribution's second moments."""
    z, alpha = np.array([0, *DEPRESSION]), np.array([0.5] + [1.0] * 9)
    # E[w_i w_j] = a_i a_j / (A (A + 1)), and a_i more in the numerator where i = j.
    moments = (np.outer(alpha, alpha) + np.diag(alpha)) / (alpha.sum() * (alpha.sum() + 1))
    sums = z[:, None] + z
    shares = posterior_shares(DEPRESSION, rope=0.3, rng=np.random.default_rng(1), draws=20_000)
    above = moments[sums > 0.6 + 1e-9].sum() + moments[np.abs(sums - 0.6) < 1e-9].sum() / 2  # .59 + .01: half
    expected = [0, 1 - above, above]  # -.147 - .147 is within
    np.testing.assert_allclose(shares.mean(axis=0), expected, atol=4 * shares.std() / 20_000**0.5)
    np.testing.assert_allclose(shares.sum(axis=1), 1)


@pytest.mark.parametrize("rope", [0.0, 0.3, 0.4])
def test_every_pair(rope: float) -> None:
    """Shares of each draw against the sum over all pairs: ties at either end of the rope, and several chunks."""
    d = np.round(np.random.default_rng(4).normal(0.1, 0.5, 60), 1)
    z, draws = np.array([0, *d]), 2 * CHUNK // 61 + 7
    weights = np.random.default_rng(5).dirichlet([0.5] + [1.0] * 60, size=draws)
    sums = np.round(z[:, None] + z, 6)
    assert (np.abs(sums) == np.round(2 * rope, 6)).any()
    above = (sums > round(2 * rope, 6)) + (sums == round(2 * rope, 6)) / 2
    below = (sums < -round(2 * rope, 6)) + (sums == -round(2 * rope, 6)) / 2
    expected = [np.einsum("bi,ij,bj->b", weights, side, weights, optimize=True) for side in (below, above)]
    shares = posterior_shares(d, rope=rope, rng=np.random.default_rng(5), draws=draws)
    np.testing.assert_allclose(shares[:, [0, 2]], np.transpose(expected), atol=1e-12)


def test_one_difference() -> None:
    """One difference of 2 within a rope of 1.5 against the distribution function of a beta, in closed form."""
    # Above the rope is only 2 + 2 > 3, with share w^2, w ~ Beta(1, s): P(w^2 > 1/2) = (1 - sqrt(1/2))^s.
    test = bayesian_signed_rank([2.0], rope=1.5, prior_strength=0.7, rng=np.random.default_rng(2))
    assert test.p_above == pytest.approx((1 - 0.5**0.5) ** 0.7, abs=4 * test.standard_error)
    assert test.p_below == 0


@given(st.lists(st.integers(-8, 8), min_size=1, max_size=8), st.sampled_from([0.0, 0.5, 1.0, 2.0]))
@settings(deadline=None, max_examples=40)
def test_symmetries(d: list[int], rope: float) -> None:
    """Swapped arms against swapped shares, another unit against the same ones, under one seed."""

    def shares(values: list[float], rope: float) -> np.ndarray:
        return posterior_shares(values, rope=rope, rng=np.random.default_rng(3), draws=50)

    ours = shares([float(x) for x in d], rope)
    np.testing.assert_allclose(shares([-float(x) for x in d], rope), ours[:, ::-1], atol=1e-12)
    np.testing.assert_allclose(shares([4.0 * x for x in d], 4 * rope), ours, atol=1e-12)


def test_randomness_is_the_generator() -> None:
    """One seed against the same result, another against a different one."""
    first, again, other = (
        bayesian_signed_rank(DEPRESSION, rope=0.3, rng=np.random.default_rng(seed), draws=1000)
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_unusable() -> None:
    """Options out of range against ValueError."""
    rng = np.random.default_rng(0)
    for options in ({"rope": -1.0}, {"rope": float("nan")}, {"prior_strength": 0.0}, {"draws": 0}):
        with pytest.raises(ValueError, match=r"rope|prior"):
            bayesian_signed_rank([1.0], rng=rng, **{"rope": 1.0} | options)  # type: ignore[arg-type]
