"""Sizes of an effect besides the Hodges-Lehmann estimate: settings won, and the probability of improvement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from analysis.evidence import ProbabilityOfImprovement, SettingsWon
from analysis.intervals import clopper_pearson, sign_test
from analysis.signed_rank import finite


def settings_won(
    differences: Sequence[float],
    *,
    higher_is_better: bool = True,
    decimals: int = 9,
    confidence: float = 0.95,
) -> SettingsWon:
    """Settings that the candidate wins, with the exact sign test and the exact interval of the share.

    7 of 9, or more extreme, happens 18% of the time by chance, and 60% of the time when the settings share a seed
    effect as large as the spread of their means.

    Args:
        differences: candidate minus baseline, one per setting [n].
        higher_is_better: whether a positive difference is won.
        decimals: differences are rounded to this before their signs are taken.
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: no differences, a value that is not finite, a confidence outside (0, 1).

    Source: Dixon & Mood (1946), JASA 41:557; Clopper & Pearson (1934), Biometrika 26:404.
    """
    signs = np.sign(np.round(finite(differences), decimals)) * (1 if higher_is_better else -1)
    won, lost = int((signs > 0).sum()), int((signs < 0).sum())
    return SettingsWon(
        won=won,
        tied=len(signs) - won - lost,
        lost=lost,
        share=clopper_pearson(won, won + lost, confidence) if won + lost else None,
        p_value=sign_test(won, lost),
        reason=None if won + lost else "every difference is 0",
    )


def probability_of_improvement(
    candidate: ArrayLike, baseline: ArrayLike, *, higher_is_better: bool = True
) -> ProbabilityOfImprovement:
    """P(candidate's run > baseline's run) + P(equal) / 2 at each setting, averaged over settings.

    All pairs of seeds of a setting are compared: the Mann-Whitney statistic over its maximum. No interval is given: the
    bootstrap over seeds that is usual covers far less than it says with 3 seeds.

    Args:
        candidate: values [settings, seeds]; NaN: no value.
        baseline: values [settings, seeds], the same settings; the seeds may differ.
        higher_is_better: whether larger values improve.

    Raises:
        ValueError: tables with different numbers of settings, or infinite values.

    Source: Agarwal et al. (2021), NeurIPS, "Deep RL at the edge of the statistical precipice".
    """
    ours, theirs = (np.array(values, dtype=np.float64) for values in (candidate, baseline))
    if ours.ndim != 2 or theirs.ndim != 2 or len(ours) != len(theirs):
        raise ValueError(
            f"need two tables [settings, seeds] of the same settings, got {ours.shape} and {theirs.shape}"
        )
    if np.isinf(ours).any() or np.isinf(theirs).any():
        raise ValueError("values must be finite or NaN")
    by_setting: list[float | None] = []
    for a, b in zip(ours, theirs, strict=True):
        signs = np.sign(a[~np.isnan(a)][:, None] - b[~np.isnan(b)])
        by_setting.append(float((signs.mean() + 1) / 2) if signs.size else None)
    if not higher_is_better:
        by_setting = [None if share is None else 1 - share for share in by_setting]
    known = [share for share in by_setting if share is not None]
    return ProbabilityOfImprovement(
        estimate=float(np.mean(known)) if known else None,
        by_setting=by_setting,
        settings=len(known),
        reason=None if known else "no setting has runs of both arms",
    )
