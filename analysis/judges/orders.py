"""Several judgements of the same pairs, put together: one preference each, position bias, the judge's own noise.

Preferences are the candidate's share of a win, in [0, 1]. A pair is judged in one or two orders of presentation and
`k` times in each; what is missing is None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any


@dataclass(frozen=True)
class Pass:
    """One judgement of every pair.

    Attributes:
        order: 0 or 1; the second shows every pair the other way round.
        preferences: one per pair, the candidate's.
        candidate_first: one per pair, whether the candidate was shown first; None where nothing was shown
            (equal answers).
    """

    order: int
    preferences: Sequence[float | None]
    candidate_first: Sequence[bool | None]


def mean_preferences(passes: Sequence[Pass]) -> list[float | None]:
    """One preference per pair: the mean over its orders of the mean over its repeats.

    None where an order has no judgement at all: the mean of the rest would lean to whoever was shown first.
    """
    orders = _by_order(passes)
    found: list[float | None] = []
    for pair in range(len(passes[0].preferences)):
        means = [_mean([one.preferences[pair] for one in order]) for order in orders]
        present = [mean for mean in means if mean is not None]
        found.append(fmean(present) if len(present) == len(orders) else None)
    return found


def position_bias(passes: Sequence[Pass]) -> dict[str, Any]:
    """How far the judge leans to the answer shown first.

    Returns:
        `estimate`: mean preference for the answer shown first, minus 0.5; `standard_error` over pairs;
        `pairs`: those that were shown; `orders`: 1 or 2; `consistency`: share of the pairs, judged in both
        orders, on which both prefer the same answer. With one order the estimate is unbiased only because the
        order is random; `reason` says why something is None.
    """
    orders = _by_order(passes)
    leanings: list[float] = []
    same: list[bool] = []
    for pair in range(len(passes[0].preferences)):
        means = [_mean([one.preferences[pair] for one in order]) for order in orders]
        first = [order[0].candidate_first[pair] for order in orders]
        shown = [
            (mean, is_first)
            for mean, is_first in zip(means, first, strict=True)
            if mean is not None and is_first is not None
        ]
        if len(shown) < len(orders):
            continue
        leanings.append(fmean(mean if is_first else 1 - mean for mean, is_first in shown) - 0.5)
        if len(shown) == 2:
            same.append(_sign(shown[0][0] - 0.5) == _sign(shown[1][0] - 0.5))
    reasons = []
    if not leanings:
        reasons.append("no pair was shown to the judge")
    elif len(leanings) < 2:
        reasons.append("a standard error needs two pairs")
    if len(orders) < 2:
        reasons.append("consistency needs both orders")
    return {
        "estimate": fmean(leanings) if leanings else None,
        "standard_error": math.sqrt(variance(leanings) / len(leanings)) if len(leanings) > 1 else None,
        "pairs": len(leanings),
        "orders": len(orders),
        "consistency": fmean(same) if same else None,
        "reason": "; ".join(reasons) or None,
    }


def judge_noise(passes: Sequence[Pass]) -> dict[str, Any]:
    """How much the same judge differs from itself on the same pair shown in the same order.

    Returns:
        `within_pair_sd`: root of the mean variance (ddof 1) over pairs and orders, on the scale of preferences;
        `win_rate_variance`, points squared, and its root `win_rate_sd`: what that noise adds to the win rate
        after averaging, (100/n)^2 x that mean variance x the sum over pairs and orders of 1/(k orders^2), since
        the win rate is a mean of its judgements; `repeats` and `pairs`; `reason` where undefined. Pairs of equal
        answers are never shown to a judge and have no noise.
    """
    orders = _by_order(passes)
    repeats = len(orders[0])
    variances: list[float] = []
    averaged = 0.0  # sum over pairs and orders of 1 / (judgements x orders^2)
    preferences = mean_preferences(passes)
    pairs = sum(preference is not None for preference in preferences)
    for pair, preference in enumerate(preferences):
        if preference is None or orders[0][0].candidate_first[pair] is None:
            continue
        for order in orders:
            values = [value for one in order if (value := one.preferences[pair]) is not None]
            averaged += 1 / len(values) / len(orders) ** 2
            if len(values) > 1:
                variances.append(variance(values))
    if not variances:
        reason = "one judgement per pair and order" if repeats < 2 else "no pair was judged twice"
        unknown = {"within_pair_sd": None, "win_rate_variance": None, "win_rate_sd": None}
        return unknown | {"repeats": repeats, "pairs": pairs, "reason": reason}
    win_rate_variance = (100 / pairs) ** 2 * fmean(variances) * averaged
    return {
        "within_pair_sd": math.sqrt(fmean(variances)),
        "win_rate_variance": win_rate_variance,
        "win_rate_sd": math.sqrt(win_rate_variance),
        "repeats": repeats,
        "pairs": pairs,
        "reason": None,
    }


def _by_order(passes: Sequence[Pass]) -> list[list[Pass]]:
    return [[one for one in passes if one.order == order] for order in sorted({p.order for p in passes})]


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return fmean(present) if present else None


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
