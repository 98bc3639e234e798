"""Three arms or more at a glance: average ranks over settings, Friedman's test and Nemenyi's critical difference.

Exploratory: the declared comparisons are pairs of arms, adjusted by Holm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from analysis.results.blocks import Block
from analysis.results.table import value_of
from analysis.results.values import Frozen
from analysis.study import Study


class AverageRanks(Frozen):
    """Three arms or more ranked at every setting; exploratory, whatever was declared."""

    ranks: dict[str, float]
    """Arm -> average rank, 1 the best; empty where there is a reason."""
    settings: int
    """At which every arm has a value."""
    left_out: int
    """Settings at which one has none."""
    statistic: float | None
    """Friedman's chi-square, corrected for ties."""
    p_value: float | None
    f_statistic: float | None
    """Iman and Davenport's; None too where it is infinite."""
    f_p_value: float | None
    """P-value of the F statistic."""
    critical_difference: float | None
    """Nemenyi's: average ranks closer than this do not differ."""
    alpha: float
    reason: str | None
    """Why there are none."""


class AverageRanksBlock(Block[AverageRanks]):
    """Exploratory; null for fewer than three arms."""

    kind: Literal["average_ranks"] = "average_ranks"
    what: str = "Average rank of every arm over settings, on the primary metric"


BLOCK = AverageRanksBlock


def average_ranks(
    values: ArrayLike, arms: Sequence[str], *, higher_is_better: bool, alpha: float = 0.05
) -> AverageRanks:
    """Rank the arms at every setting, the best 1, and compare the average ranks.

    Ties share their mid-rank. Friedman's statistic is corrected for them; Iman and Davenport's F is the better
    approximation. Two arms whose average ranks differ by less than the critical difference do not differ.

    Args:
        values: mean over seeds [settings, arms]; a setting in which an arm has none (NaN) is left out.
        arms: their names, at least 3.
        higher_is_better: of the values.
        alpha: level of the critical difference, in (0, 1).

    Returns:
        Ranks and tests, or None and the reason: fewer than 2 complete settings, or all arms equal everywhere. Settings
        share seeds and prompts, as in every test over settings.

    Raises:
        ValueError: not a table of these arms, fewer than 3 of them, an alpha out of range.

    Source: Demsar (2006), JMLR 7:1, section 3.2; Friedman (1937), JASA 32:675; Iman & Davenport (1980), Communications
    in Statistics A9:571; Nemenyi (1963), Distribution-free multiple comparisons.
    """
    table = np.array(values, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != len(arms) or len(arms) < 3:
        raise ValueError(f"need values [settings, arms] of at least 3 arms, got {table.shape} of {len(arms)}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}")
    complete = table[~np.isnan(table).any(axis=1)]
    n, k = complete.shape
    left_out = len(table) - n
    if n < 2:
        return _none(alpha, n, left_out, f"needs 2 settings at which every arm has a value, has {n}")
    from scipy.special import chdtrc, fdtrc  # slow to import
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    ranks = rankdata(-complete if higher_is_better else complete, axis=1)
    if (complete == complete[:, :1]).all():
        return _none(alpha, n, left_out, "all arms have the same value at every setting")
    means = ranks.mean(axis=0)
    statistic = float(friedmanchisquare(*ranks.T).statistic)
    rest = n * (k - 1) - statistic
    f = math.inf if rest <= 1e-12 * n * k else (n - 1) * statistic / rest
    quantile = float(studentized_range.ppf(1 - alpha, k, np.inf)) / math.sqrt(2)
    return AverageRanks(
        ranks=dict(zip(arms, means.tolist(), strict=True)),
        settings=n,
        left_out=left_out,
        statistic=statistic,
        p_value=float(chdtrc(k - 1, statistic)),
        f_statistic=None if math.isinf(f) else f,
        f_p_value=0.0 if math.isinf(f) else float(fdtrc(k - 1, (k - 1) * (n - 1), f)),
        critical_difference=quantile * math.sqrt(k * (k + 1) / (6 * n)),
        alpha=alpha,
        reason=None,
    )


def make(study: Study) -> AverageRanksBlock | None:
    """`average_ranks` of each arm's mean over the seeds that all arms have at a setting.

    None for fewer than 3 arms, or a metric of which neither direction is better.
    """
    metric, arms, index, seeds = study.primary, study.table.arms, study.table.index, study.table.seeds
    if len(arms) < 3 or metric.higher_is_better is None:
        return None
    rows = []
    for setting in study.table.settings:
        values = np.array(
            [
                [_number(value_of(index.get((arm, setting, seed)), metric.name)) for arm in arms]
                for seed in seeds
            ]
        )
        complete = values[~np.isnan(values).any(axis=1)]
        rows.append(complete.mean(axis=0) if len(complete) else np.full(len(arms), np.nan))
    return AverageRanksBlock(
        value=average_ranks(rows, arms, higher_is_better=metric.higher_is_better, alpha=study.declared.alpha)
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _none(alpha: float, settings: int, left_out: int, reason: str) -> AverageRanks:
    return AverageRanks(
        ranks={},
        settings=settings,
        left_out=left_out,
        statistic=None,
        p_value=None,
        f_statistic=None,
        f_p_value=None,
        critical_difference=None,
        alpha=alpha,
        reason=reason,
    )
