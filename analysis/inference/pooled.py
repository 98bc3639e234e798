"""All pairs pooled, and every setting by itself: descriptive only, each with the reason why."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from analysis.inference.crossed import check_table, setting_means
from analysis.inference.multiplicity import benjamini_hochberg
from analysis.inference.signed_rank import signed_rank_test
from analysis.results.model import Alternative, PooledTest, SettingTest, SignedRank, ZeroMethod, unit_of_test
from analysis.results.words import format_p

ZERO_METHODS: tuple[ZeroMethod, ...] = ("pratt", "wilcox", "zsplit")


def pooled_signed_rank(
    differences: ArrayLike,
    *,
    alternative: Alternative = "two-sided",
    decimals: int = 9,
    prompts: int | None = None,
) -> PooledTest:
    """The signed-rank test over all pairs, as if independent: descriptive.

    At a nominal 5%, 9 settings x 3 seeds and a component that pairs share as large as the spread of a run, it rejects a
    true null hypothesis 16% (settings) to 39% (seeds) of the time.

    Args:
        differences: candidate minus baseline [settings, seeds]; NaN: no complete pair, left out.
        alternative: of both tests.
        decimals: as for `signed_rank_test`.
        prompts: in the evaluation, for the description of the unit.

    Raises:
        ValueError: not a table, or no complete pair.
    """
    table = check_table(differences)
    known = ~np.isnan(table)
    means = setting_means(table)
    settings, seeds, pairs = len(means), int(known.any(axis=0).sum()), int(known.sum())
    pooled = signed_rank_test(table[known], alternative=alternative, decimals=decimals)
    valid = signed_rank_test(means, alternative=alternative, decimals=decimals)
    unit = unit_of_test("pair", settings=settings, seeds=seeds, prompts=prompts)
    return PooledTest(
        test=pooled,
        unit=unit.model_copy(update={"n": pairs}),
        over_settings=valid,
        over_settings_unit=unit_of_test("setting", settings=settings, seeds=seeds, prompts=prompts),
        warning=f"descriptive: the {pairs} pairs are not independent, they share {settings} settings and {seeds} "
        f"seeds, and where either matters p comes out too small (here {format_p(pooled.p_value).removeprefix('= ')}); "
        f"over the settings, p {format_p(valid.p_value)}",
    )


def explore_settings(
    differences: ArrayLike, settings: Sequence[str], *, alpha: float = 0.05, decimals: int = 9
) -> list[SettingTest]:
    """The signed-rank test over the seeds of each setting, with Benjamini-Hochberg over settings; exploratory.

    Few seeds cannot reach alpha whatever comes out: 3 seeds have 0.25 as their smallest two-sided p. That is "not
    testable", not "not significant". Nor is a count of won settings evidence by itself.

    Args:
        differences: candidate minus baseline [settings, seeds]; NaN: no complete pair.
        settings: their labels.
        alpha: level that must be in reach.
        decimals: as for `signed_rank_test`.

    Raises:
        ValueError: not a table, or another number of labels than rows.
    """
    table = check_table(differences)
    if len(settings) != len(table):
        raise ValueError(f"{len(settings)} labels for {len(table)} settings")
    rows = [row[~np.isnan(row)] for row in table]
    tests = [signed_rank_test(row, decimals=decimals) if len(row) else None for row in rows]
    adjusted = benjamini_hochberg([None if test is None else test.p_value for test in tests]).adjusted
    results = []
    for setting, test, p in zip(settings, tests, adjusted, strict=True):
        reason = None
        if test is None:
            reason = "no complete pair"
        elif test.smallest_p > alpha:
            reason = f"not testable (smallest p {format_p(test.smallest_p).removeprefix('= ')})"
        results.append(
            SettingTest(setting=setting, test=test, adjusted=p, testable=reason is None, reason=reason)
        )
    return results


def zero_sensitivity(
    differences: Sequence[float], *, alternative: Alternative = "two-sided", decimals: int = 9
) -> dict[ZeroMethod, SignedRank]:
    """The signed-rank test under each treatment of zeros, Pratt's first: whether the conclusion hangs on it.

    Arguments and errors as for `signed_rank_test`. "zsplit" gives the same p as "pratt": conditionally on which
    differences are zero, half of their ranks is a constant on both sides.
    """
    return {
        method: signed_rank_test(differences, zero_method=method, alternative=alternative, decimals=decimals)
        for method in ZERO_METHODS
    }
