"""Balancing coefficients: how much of the gradient each response of a pair gets (AdaDPO, arXiv 2605.28440).

One rule for every loss that is a function of u_w - u_l: coefficients inversely proportional to the score's
sensitivity to the probability, c_w / c_l = |du_l/dp_l| / |du_w/dp_w|.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from adadpo.method.registry import Method

# Without a clip a sequence ratio can be exp(1e4). At this many nats, the square (IPO) of a coefficient times a score of
# 1e4 nats is 1e34: a batch of thousands of such pairs can be summed in float32.
LARGEST_LOG_RATIO = 30.0


class Balance(NamedTuple):
    """Coefficients of one batch; every field has shape [pairs] and carries no gradient."""

    chosen: Tensor  # c_w
    rejected: Tensor  # c_l
    clipped: Tensor  # bool: the bound on the ratio was active


def balanced_log_probability(method: Method, logps: Tensor, lengths: Tensor) -> Tensor:
    """Log p of the probability that goes into the ratio: the sequence's, or the typical token's exp(s / n).

    With "per_token" the rule above holds in exp(s / n) for every loss. With "sequence" it holds in exp(s) for scores of
    sums; the sensitivity of a score of means to exp(s) has 1 / n in it, which the ratio exp(s_w - s_l) leaves out, so
    that responses of equal length are balanced (for ORPO, of one token).

    Args:
        method: its `balance` is "sequence" or "per_token".
        logps: Float[pairs], nats; with `balance_reference` the log-ratio to the reference instead.
        lengths: Int[pairs], scored tokens.

    Returns:
        Float[pairs], nats.
    """
    return logps if method.balance == "sequence" else logps / lengths.clamp(min=1)


def coefficients(method: Method, log_ratio: Tensor) -> Balance:
    """Two numbers c_w, c_l with c_w / c_l = exp(clipped log_ratio).

    Args:
        method: `clip` bounds the ratio to [1/clip, clip]; `normalization` says how the ratio R becomes two numbers:
            geometric (sqrt R, 1/sqrt R), chosen (R, 1), rejected (1, 1/R), mean (2R/(1+R), 2/(1+R)).
        log_ratio: Float[pairs], nats.

    Returns:
        The coefficients, detached.
    """
    bound = LARGEST_LOG_RATIO if method.clip is None else min(math.log(method.clip), LARGEST_LOG_RATIO)
    log_ratio = log_ratio.detach()
    bounded = log_ratio.clamp(-bound, bound)
    if method.normalization == "geometric":
        chosen, rejected = torch.exp(bounded / 2), torch.exp(-bounded / 2)
    elif method.normalization == "chosen":
        chosen, rejected = torch.exp(bounded), torch.ones_like(bounded)
    elif method.normalization == "rejected":
        chosen, rejected = torch.ones_like(bounded), torch.exp(-bounded)
    else:
        chosen, rejected = 2 * F.sigmoid(bounded), 2 * F.sigmoid(-bounded)
    return Balance(chosen, rejected, log_ratio.abs() > bound)


def apply_coefficient(method: Method, score: Tensor, coefficient: Tensor) -> Tensor:
    """The score with its coefficient: in the forward value ("margin") or in the gradient only ("gradient")."""
    if method.placement == "margin":
        return coefficient * score
    # Not c s + (1 - c) sg(s): without a clip c reaches exp(30), and the two terms cancel to noise.
    return score.detach() + coefficient * (score - score.detach())
