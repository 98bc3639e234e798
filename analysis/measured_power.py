"""Power of a new sweep like this one, with the spread that this one measured."""

from __future__ import annotations

import math

import numpy as np

from analysis.evidence import Power
from analysis.power import simulate_power
from analysis.results import Comparison, Declared

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
