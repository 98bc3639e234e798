"""What a design can show, before anything is spent: power of the exact test over settings."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from analysis.inference.generalization import generalization_rejects
from analysis.inference.signed_rank import critical_sum
from analysis.results.model import Alternative, Comparison, Declared, Power


def smallest_p(n: int, alternative: Alternative = "two-sided") -> float:
    """The smallest p of the exact signed-rank test over n differences: all have one sign.

    2 / 2^n two-sided, 1 / 2^n one-sided; 1 without differences.
    """
    return min(1.0, math.ldexp(2.0 if alternative == "two-sided" else 1.0, -n))


def fewest_settings(alpha: float = 0.05, alternative: Alternative = "two-sided") -> int:
    """The number of settings from which the exact test can reach alpha: 6 at .05 two-sided, 5 one-sided.

    Raises:
        ValueError: an alpha outside (0, 1).
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}")
    return next(n for n in itertools.count(1) if smallest_p(n, alternative) <= alpha)


def simulate_power(
    *,
    settings: int,
    seeds: int,
    effect: float,
    run_sd: float,
    setting_sd: float,
    rng: np.random.Generator,
    seed_sd: float = 0.0,
    alpha: float = 0.05,
    alternative: Alternative = "two-sided",
    simulations: int = 10_000,
) -> Power:
    """Power of the exact signed-rank test over seed-averaged differences, and of the verdict, by simulation.

    d_ks = effect + setting_k + seed_s + run_ks, each component independent and normal; the test is over the means of
    d_ks over seeds. With a seed_sd above 0 it rejects too often even without effect: more settings do not help there,
    more seeds do. The verdict needs the generalization test too (`generalization_test`, of settings and seeds; what
    prompts share is not in it), so with one seed it is never "better" or "worse".

    Args:
        settings: number of settings K, at least 1.
        seeds: number of seeds S, at least 1.
        effect: true mean difference.
        run_sd: SD of the difference between the two arms' runs at one setting and seed, sqrt(2) times the SD of a
            single run where arms are independent.
        setting_sd: SD of true differences between settings.
        rng: source of the simulation; the only randomness.
        seed_sd: SD of what pairs of one seed share.
        alpha: level of the test.
        alternative: of the test.
        simulations: number of simulated sweeps, at least 1.

    Raises:
        ValueError: a count below 1, an SD that is negative or all of them 0, an alpha outside (0, 1).
    """
    if min(settings, seeds, simulations) < 1:
        raise ValueError(
            f"settings, seeds and simulations must be at least 1, got {settings}, {seeds}, {simulations}"
        )
    if min(run_sd, setting_sd, seed_sd) < 0 or not run_sd + setting_sd > 0:
        raise ValueError(
            f"SDs must be at least 0 and run or setting SD above 0, got {run_sd}, {setting_sd}, {seed_sd}"
        )
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}")
    reachable = smallest_p(settings, alternative) <= alpha
    power = verdict = 0.0
    if reachable:
        # The mean of S independent values has their SD over sqrt(S): drawn as one.
        of_setting = math.hypot(setting_sd, run_sd / math.sqrt(seeds))
        d = effect + of_setting * rng.standard_normal((simulations, settings))
        d += seed_sd / math.sqrt(seeds) * rng.standard_normal((simulations, 1))
        rejected = rejects(d, alpha, alternative)
        power = float(rejected.mean())
        if min(settings, seeds) > 1:
            # Of normal components the other mean squares are independent of d, and scaled chi-squares.
            rest, between = (settings - 1) * (seeds - 1), seeds - 1
            run = run_sd**2 * rng.chisquare(rest, simulations) / rest
            of_seed = (run_sd**2 + settings * seed_sd**2) * rng.chisquare(between, simulations) / between
            squares = np.array([seeds * d.var(axis=1, ddof=1), of_seed, run])
            agreed = generalization_rejects(d.mean(axis=1), squares, (settings, seeds), alpha, alternative)
            verdict = float((rejected & agreed).mean())
    return Power(
        settings=settings,
        seeds=seeds,
        effect=effect,
        run_sd=run_sd,
        setting_sd=setting_sd,
        seed_sd=seed_sd,
        alpha=alpha,
        alternative=alternative,
        power=power,
        standard_error=math.sqrt(power * (1 - power) / simulations),
        verdict=verdict,
        simulations=simulations,
        smallest_p=smallest_p(settings, alternative),
        reason=None
        if reachable
        else f"{settings} settings cannot reach alpha = {alpha:g}: the smallest p is "
        f"{smallest_p(settings, alternative):.4g}; {fewest_settings(alpha, alternative)} settings can",
    )


def rejects(
    differences: NDArray[np.float64], alpha: float, alternative: Alternative = "two-sided"
) -> NDArray[np.bool_]:
    """Whether the exact signed-rank test rejects, for many samples without ties and zeros at once.

    Args:
        differences: [samples, n], continuous.
        alpha: level.
        alternative: as for `signed_rank_test`, whose decision this is.

    Returns:
        One decision per sample [samples].
    """
    n = differences.shape[1]
    by_size = np.abs(differences).argsort(axis=1)
    w_plus = np.take_along_axis(differences > 0, by_size, axis=1) @ np.arange(1, n + 1)
    w_minus = n * (n + 1) // 2 - w_plus
    statistic = {"two-sided": np.minimum(w_plus, w_minus), "greater": w_minus, "less": w_plus}[alternative]
    tail = alpha / 2 if alternative == "two-sided" else alpha
    critical, _ = critical_sum(n, tail)  # the smallest sum that does not reject
    return np.asarray(statistic < critical)


def smallest_detectable_difference(
    standard_error: float, *, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The true difference that a two-sided normal test at alpha finds with this power, in the error's unit.

    (z_(1 - alpha/2) + z_power) SE, 2.80 SE at the defaults; a rejection in the wrong direction is not counted. For one
    pair of runs, take the paired bootstrap's SE.

    Raises:
        ValueError: a negative error, an alpha or a power outside (0, 1).
    """
    if not standard_error >= 0 or not 0 < alpha < 1 or not 0 < power < 1:
        raise ValueError(
            f"need an error of at least 0, alpha and power in (0, 1), got {standard_error}, {alpha}, {power}"
        )
    from scipy.special import ndtri  # slow to import

    return float(ndtri(1 - alpha / 2) + ndtri(power)) * standard_error


# Power of a new sweep like this one, with the spread that this one measured.

TIMES_ROPE = (0.5, 1.0, 1.5, 2.0, 3.0)
MOST_SETTINGS = 60  # the null distribution of more takes long, and their power is not the question
SIMULATIONS = 10_000


def measured_power(comparison: Comparison, *, declared: Declared, rng_seed: int = 0) -> list[Power]:
    """Power of the planned design, without a gap, for differences of half to three times the region of equivalence.

    Never for the difference that was estimated: power at the estimate is the p-value told twice (Hoenig & Heisey 2001,
    The American Statistician 55:19).

    Args:
        comparison: the primary one.
        declared: alpha, direction and region.
        rng_seed: of the simulation.

    Returns:
        One for each difference; empty where components, a region or spread are missing, or settings are too many.
    """
    crossed = comparison.inference.crossed if comparison.inference else None
    if crossed is None or crossed.components is None or not declared.rope > 0:
        return []
    parts = crossed.components
    run, setting, seed = (math.sqrt(max(0.0, part)) for part in (parts.run, parts.setting, parts.seed))
    settings, seeds = len(comparison.differences), len(comparison.differences[0].values)
    if run + setting == 0 or settings > MOST_SETTINGS:
        return []
    sign = -1 if declared.alternative == "less" else 1
    return [
        simulate_power(
            settings=settings,
            seeds=seeds,
            effect=sign * times * declared.rope,
            run_sd=run,
            setting_sd=setting,
            seed_sd=seed,
            alpha=declared.alpha,
            alternative=declared.alternative,
            rng=np.random.default_rng(rng_seed),
            simulations=SIMULATIONS,
        )
        for times in TIMES_ROPE
    ]
