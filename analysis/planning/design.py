"""What a design can show, put together: smallest p, power for the declared effect, settings that would do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from analysis.planning.power import fewest_settings, simulate_power, smallest_p
from analysis.results.model import CrossedTest, Power
from analysis.results.values import Alternative, Frozen

ENOUGH = 0.8  # power that a design is asked for
MOST_SETTINGS = 128  # that are looked at
SIMULATIONS = 4000
# Differences drawn at the most for a power: beyond 256 settings fewer sweeps are simulated, so that a plan of a
# thousand settings takes a second. The differences looked for are small there: they shrink by 1 / sqrt(settings).
DRAWN = 4000 * 256
ONE_SEED = "with one seed no verdict is better or worse, whatever the results are: add seeds"


class Spreads(Frozen):
    """SDs of the difference between two arms, in the metric's unit, and where they come from."""

    run: float  # one pair of runs at one setting and seed
    setting: float  # true differences between settings
    seed: float = 0.0  # what all pairs of one seed share
    source: str


class DesignCheck(Frozen):
    """Whether a design can show anything, before anything is spent."""

    settings: int
    seeds: int
    alpha: float  # of each test: the declared one over the size of its family, which Holm's first step needs
    smallest_p: float  # that the exact test over settings can reach
    testable: bool
    fewest_settings: int  # that can reach alpha
    spreads: Spreads | None
    power: Power | None  # for the declared effect: of the declared test, and of the verdict
    enough_settings: int | None  # the fewest at which the verdict has a power of 80%, as many seeds
    detectable: float | None  # the smallest true difference that the verdict finds with a power of 80%
    reasons: dict[str, str]  # field -> why it is None


def measured_spreads(crossed: CrossedTest, source: str) -> Spreads | str:
    """SDs from the variance components of finished runs, or in words why they give none.

    Components that came out negative count as 0.
    """
    if crossed.components is None:
        return f"{source} give no SDs: they need 2 settings and 2 seeds without a missing pair"
    parts = crossed.components
    run, setting, seed = (math.sqrt(max(0.0, part)) for part in (parts.run, parts.setting, parts.seed))
    if run + setting == 0:
        return f"the differences of {source} are the same at every setting: SDs of 0 say nothing about further runs"
    return Spreads(run=run, setting=setting, seed=seed, source=source)


def check_design(
    *,
    settings: int,
    seeds: int,
    alpha: float,
    alternative: Alternative,
    family: int = 1,
    effect: float | None = None,
    spreads: Spreads | str | None = None,
    rng_seed: int = 0,
) -> DesignCheck:
    """What a sweep of so many settings and seeds can show about its primary metric.

    Args:
        settings: number of settings, at least 1.
        seeds: number of seeds, at least 1.
        alpha: declared level, over the whole family.
        alternative: of the test.
        family: declared candidates, each with a test of its own.
        effect: true mean difference to find, in the metric's unit; None: not declared.
        spreads: SDs, stated or measured; why finished runs give none; None: there are none.
        rng_seed: of the simulations.

    Raises:
        ValueError: a count below 1, an SD that is negative or all of them 0, an alpha outside (0, 1).
    """
    level = alpha / family
    fewest = fewest_settings(level, alternative)
    power, enough, detectable, reasons = None, None, None, {}
    if not isinstance(spreads, Spreads):
        unknown = (
            f"{spreads}; state compare.run_sd and compare.setting_sd"
            if spreads
            else "SDs are not known: state compare.run_sd and compare.setting_sd, or measure them by finished runs"
        )
        reasons = dict.fromkeys(("spreads", "power", "enough_settings", "detectable"), unknown)
    else:
        assumed: dict[str, Any] = {
            "seeds": seeds,
            "run_sd": spreads.run,
            "setting_sd": spreads.setting,
            "seed_sd": spreads.seed,
            "alpha": level,
            "alternative": alternative,
        }

        def power_of(effect: float, settings: int) -> Power:
            # The same draws for every effect, so that power grows with it.
            rng = np.random.default_rng(rng_seed)
            simulations = min(SIMULATIONS, max(400, DRAWN // settings))
            return simulate_power(
                settings=settings, effect=effect, rng=rng, simulations=simulations, **assumed
            )

        if effect is None:
            undeclared = "compare.effect is not declared"
            reasons = dict.fromkeys(("power", "enough_settings"), undeclared)
        else:
            power = power_of(effect, settings)
            found = range(fewest, MOST_SETTINGS + 1)
            if seeds > 1:
                enough = _first(found, lambda number: (power_of(effect, number).verdict or 0) >= ENOUGH)
            if enough is None:
                reasons["enough_settings"] = (
                    f"not even {MOST_SETTINGS} settings have a power of {ENOUGH:.0%} with {seeds} seeds"
                    if seeds > 1
                    else ONE_SEED
                )
        if seeds < 2:
            reasons["detectable"] = ONE_SEED
        elif settings >= fewest:
            detectable = _detectable(lambda size: power_of(size, settings).verdict or 0, spreads, alternative)
        else:
            reasons["detectable"] = f"{settings} settings cannot reach alpha whatever the difference is"
    return DesignCheck(
        settings=settings,
        seeds=seeds,
        alpha=level,
        smallest_p=smallest_p(settings, alternative),
        testable=settings >= fewest,
        fewest_settings=fewest,
        spreads=spreads if isinstance(spreads, Spreads) else None,
        power=power,
        enough_settings=enough,
        detectable=detectable,
        reasons=reasons,
    )


def _first(numbers: range, holds: Callable[[int], bool]) -> int | None:
    """The first number from which on something holds, by bisection; None: not even for the last."""
    if not numbers or not holds(numbers[-1]):
        return None
    low, high = 0, len(numbers) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(numbers[middle]) else (middle + 1, high)
    return numbers[low]


def _detectable(power: Callable[[float], float], spreads: Spreads, alternative: Alternative) -> float:
    """The difference with a power of `ENOUGH`, to a thousandth of the spread; negative for "less"."""
    sign = -1.0 if alternative == "less" else 1.0
    unit = math.hypot(spreads.run, spreads.setting, spreads.seed)
    low, high = 0.0, unit
    while power(sign * high) < ENOUGH:  # ends: at twenty times the spread all differences have one sign
        low, high = high, 2 * high
    while high - low > unit / 1000:
        middle = (low + high) / 2
        low, high = (low, middle) if power(sign * middle) >= ENOUGH else (middle, high)
    return sign * high
