"""Settings and seeds both random: the crossed test, and the variance components."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.results.model import (
    Alternative,
    CrossedTest,
    Interval,
    SeedValue,
    SettingDifference,
    VarianceComponents,
)
from analysis.results.table import Pair, mean, sd

# Differences between two arms as a table of settings by seeds.

Table: TypeAlias = NDArray[np.float64]  # [settings, seeds], the metric's unit; NaN: no complete pair


def setting_differences(pairs: Iterable[Pair]) -> list[SettingDifference]:
    """Candidate minus baseline at each setting: per seed, and mean and SD (ddof = 1) over complete pairs."""
    differences = []
    for setting, of_setting in groupby(pairs, key=lambda pair: pair.setting):
        values = [SeedValue(seed=pair.seed, value=pair.difference) for pair in of_setting]
        known = [v.value for v in values if v.value is not None]
        differences.append(
            SettingDifference(setting=setting, values=values, n=len(known), mean=mean(known), sd=sd(known))
        )
    return differences


def difference_table(differences: Sequence[SettingDifference]) -> Table:
    """Differences d_ks [settings, seeds] as `setting_differences` gives them; NaN where a partner is missing.

    Raises:
        ValueError: settings with different seeds: columns would mix seeds.
    """
    seeds = [[value.seed for value in setting.values] for setting in differences]
    for setting, of_setting in zip(differences, seeds, strict=True):
        if of_setting != seeds[0]:
            raise ValueError(
                f"{setting.setting} has seeds {of_setting}, {differences[0].setting} has {seeds[0]}: "
                "a table needs the same seeds at every setting"
            )
    rows = [[np.nan if v.value is None else v.value for v in setting.values] for setting in differences]
    return check_table(rows)


def check_table(differences: ArrayLike) -> Table:
    """A table [settings, seeds] of numbers, NaN where a pair is missing.

    Raises:
        ValueError: not two-dimensional, empty, or infinite somewhere.
    """
    table = np.array(differences, dtype=np.float64)
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"need differences as a table [settings, seeds], got shape {table.shape}")
    for setting, seed in np.argwhere(np.isinf(table)):
        raise ValueError(
            f"differences must be finite or NaN, got {table[setting, seed]} at {setting}, {seed}"
        )
    return table


def setting_means(table: Table) -> NDArray[np.float64]:
    """Mean difference over the seeds of each setting that has one, in order [settings with a complete pair]."""
    known = ~np.isnan(table)
    some = known.any(axis=1)
    return np.asarray(np.where(known, table, 0.0)[some].sum(axis=1) / known[some].sum(axis=1))


METHOD = "two-way ANOVA of settings and seeds, t with Satterthwaite's degrees of freedom"

# Mean squares that cancel to less than this share of themselves, or of the squared differences, are rounding.
ROUNDING = 1e-12


def crossed_test(
    differences: ArrayLike, *, alternative: Alternative = "two-sided", confidence: float = 0.95
) -> CrossedTest:
    """Test that the mean difference is 0 when both settings and seeds are samples.

    Pairs of one setting share that setting, pairs of one seed share its data order: with MS_K, MS_S and MS_E the mean
    squares of settings, seeds and the rest, SE^2 = (MS_K + MS_S - MS_E) / (K S), and Satterthwaite's degrees of
    freedom are (MS_K + MS_S - MS_E)^2 / [MS_K^2 / (K-1) + MS_S^2 / (S-1) + MS_E^2 / ((K-1)(S-1))], at least
    min(K, S) - 1. Nothing here sees what all pairs share, prompts and judge.

    The mean squares need a table without gaps. Where some pairs are missing, either the settings or the seeds with a
    gap are left out and named, whichever keeps more pairs, settings where both keep as many.

    Args:
        differences: candidate minus baseline [settings K, seeds S], in the metric's unit; NaN: no complete pair.
        alternative: "greater": the mean is above 0.
        confidence: of the two-sided interval, in (0, 1).

    Returns:
        Estimate and test. An estimated variance that is not positive gives neither error nor p; p = None does not
        reject. Fewer than 2 settings or 2 seeds without a gap: the mean over complete pairs, and the reason.

    Raises:
        ValueError: not a table, a value that is infinite, an unknown alternative, a confidence outside (0, 1).

    Source: Searle, Casella & McCulloch (1992), Variance Components (two-way random model without replication);
    Satterthwaite (1946), Biometrics Bulletin 2:110; bound: with one component alone there are K - 1 or S - 1.
    """
    if alternative not in ("two-sided", "greater", "less"):
        raise ValueError(f"alternative must be one of two-sided, greater, less, got {alternative!r}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    everything = check_table(differences)
    table, without_settings, without_seeds = complete_part(everything)
    n_settings, n_seeds = table.shape
    common = {
        "alternative": alternative,
        "settings": n_settings,
        "seeds": n_seeds,
        "left_out_settings": without_settings,
        "left_out_seeds": without_seeds,
    }
    if n_settings < 2 or n_seeds < 2:
        known = everything[~np.isnan(everything)]
        reason = f"needs 2 settings and 2 seeds without a missing pair, has {n_settings} and {n_seeds}"
        interval = _interval(float(known.mean()), None, confidence, reason) if len(known) else None
        return _without(common, interval, None, reason)

    mean = float(table.mean())
    df_run = (n_settings - 1) * (n_seeds - 1)
    ms_setting, ms_seed, ms_run = mean_squares(table)
    components = VarianceComponents(
        setting=(ms_setting - ms_run) / n_seeds, seed=(ms_seed - ms_run) / n_settings, run=ms_run
    )

    combined = ms_setting + ms_seed - ms_run
    largest = float(np.abs(table).max())
    if combined <= ROUNDING * (ms_setting + ms_seed + ms_run + ROUNDING * largest**2):
        reason = "the estimated variance of the mean is not positive: no standard error, nothing is rejected"
        return _without(common, _interval(mean, None, confidence, reason), components, reason)
    se = math.sqrt(combined / table.size)
    squares = ms_setting**2 / (n_settings - 1) + ms_seed**2 / (n_seeds - 1) + ms_run**2 / df_run
    df = max(combined**2 / squares, min(n_settings, n_seeds) - 1.0)

    from scipy.special import stdtr, stdtrit  # slow to import

    t = mean / se
    below, above = float(stdtr(df, t)), float(stdtr(df, -t))
    p_value = {"two-sided": min(1.0, 2 * min(below, above)), "greater": above, "less": below}[alternative]
    half = float(stdtrit(df, (1 + confidence) / 2)) * se
    return CrossedTest(
        interval=_interval(mean, half, confidence, None),
        standard_error=se,
        degrees_of_freedom=df,
        t=t,
        p_value=p_value,
        components=components,
        reason=None,
        **common,
    )


def mean_squares(table: Table) -> tuple[float, float, float]:
    """Mean squares of settings, seeds and the rest of a table without gaps, 2 by 2 at least."""
    n_settings, n_seeds = table.shape
    mean = float(table.mean())
    of_setting, of_seed = table.mean(axis=1) - mean, table.mean(axis=0) - mean
    rest = table - mean - of_setting[:, None] - of_seed
    return (
        n_seeds * float(of_setting @ of_setting) / (n_settings - 1),
        n_settings * float(of_seed @ of_seed) / (n_seeds - 1),
        float((rest**2).sum()) / ((n_settings - 1) * (n_seeds - 1)),
    )


def complete_part(table: Table) -> tuple[Table, list[int], list[int]]:
    """The part without gaps, and the settings and seeds that it leaves out."""
    gaps = np.isnan(table)
    settings, seeds = gaps.any(axis=1), gaps.any(axis=0)
    # Of one row or column there is no test, so a part with two of each comes first.
    by_setting, by_seed = table[~settings], table[:, ~seeds]
    if (min(by_seed.shape) >= 2, by_seed.size) > (min(by_setting.shape) >= 2, by_setting.size):
        return by_seed, [], np.flatnonzero(seeds).tolist()
    return by_setting, np.flatnonzero(settings).tolist(), []


def _interval(mean: float, half: float | None, confidence: float, reason: str | None) -> Interval:
    return Interval(
        estimate=mean,
        low=None if half is None else mean - half,
        high=None if half is None else mean + half,
        confidence=confidence,
        achieved=None,  # approximate: known by simulation alone
        method=METHOD,
        reason=reason,
    )


def _without(
    common: dict[str, object], interval: Interval | None, components: VarianceComponents | None, reason: str
) -> CrossedTest:
    return CrossedTest(
        interval=interval,
        standard_error=None,
        degrees_of_freedom=None,
        t=None,
        p_value=None,
        components=components,
        reason=reason,
        **common,
    )
