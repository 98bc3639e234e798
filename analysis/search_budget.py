"""The expected best against the number of settings tried: a larger grid finds a better best by luck alone."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np

from analysis.findings import SearchBudgets
from analysis.signed_rank import finite


def expected_best(values: Iterable[float], *, higher_is_better: bool = True) -> list[float]:
    """Expected best of n settings drawn from those tried, for n = 1 ... N.

    E[max of n] = sum_i v_(i) [(i/N)^n - ((i-1)/N)^n], drawn with replacement: at n = N it stays below the best found.

    Args:
        values: one per setting tried [N], in the metric's unit. A diverged setting was tried: give its worst value.
        higher_is_better: whether the best is the largest.

    Raises:
        ValueError: no values, or one that is not finite.

    Source: Dodge et al. (2019), EMNLP, "Show your work".
    """
    sign = 1 if higher_is_better else -1
    v = np.sort(sign * finite(values))
    below = np.arange(len(v) + 1) / len(v)
    return [sign * float(np.diff(below**n) @ v) for n in range(1, len(v) + 1)]


def compare_search_budgets(
    candidate: Iterable[float], baseline: Iterable[float], *, higher_is_better: bool = True
) -> SearchBudgets:
    """Both arms' expected best, compared at a number of settings that both have tried.

    Args:
        candidate: one value per setting of its grid.
        baseline: one value per setting of its grid.
        higher_is_better: whether the best is the largest.

    Returns:
        The curves; for grids of different sizes a warning with the share n_c / (n_c + n_b) of null comparisons that
        the candidate's best "wins": the best of all n_c + n_b exchangeable values is any of them.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    ours = expected_best(candidate, higher_is_better=higher_is_better)
    theirs = expected_best(baseline, higher_is_better=higher_is_better)
    common = min(len(ours), len(theirs))
    share = len(ours) / (len(ours) + len(theirs))
    unequal = len(ours) != len(theirs)
    return SearchBudgets(
        candidate=ours,
        baseline=theirs,
        common=common,
        difference=ours[common - 1] - theirs[common - 1],
        unequal=unequal,
        null_win_share=share,
        warning=f"unequal grids: with {len(ours)} settings against {len(theirs)} the candidate's best is the better "
        f"one {share:.0%} of the time even when nothing differs; compare at {common}"
        if unequal
        else None,
    )


@cache
def expected_maximum(n: int) -> float:
    """Expected maximum of n independent standard normal values: by how many SDs a naive best of null settings lies.

    1.49 for 9, 1.63 for 12, 2.23 for 48.

    Raises:
        ValueError: n below 1.

    Source: Tippett (1925), Biometrika 17:364; by integrating 1 - Phi^n above 0 and Phi^n below.
    """
    if n < 1:
        raise ValueError(f"a maximum needs at least 1 value, got {n}")
    from scipy.special import log_ndtr  # slow to import

    x = np.linspace(-12, 12, 4801)  # 0 is among them; beyond 12 SDs nothing is left
    power = np.exp(n * log_ndtr(x))
    return float(np.trapezoid(np.where(x < 0, -power, 1 - power), x) - (x[1] - x[0]) / 2)
