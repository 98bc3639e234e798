"""Preference losses as pure functions of log-probabilities."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from adadpo.balance import Balance, coefficients, log_probability_ratio, place
from adadpo.methods import Method, make_method


class PreferenceLoss(NamedTuple):
    """One batch's loss and what explains it; every field has shape [pairs], only `loss` carries a gradient."""

    loss: Tensor
    chosen_coefficient: Tensor  # c_w; 1 without balance
    rejected_coefficient: Tensor  # c_l; 1 without balance
    clipped: Tensor  # bool: the clip bound the ratio
    chosen_rewards: Tensor  # beta * r_w, implicit reward in nats
    rejected_rewards: Tensor  # beta * r_l
    # log of the chosen over the rejected side's geometric mean over tokens of |dL/dpi(token)|; 0 = balanced
    log_gradient_ratio: Tensor


def preference_loss(
    method: str | Method,
    *,
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    reference_chosen_logps: Tensor | None = None,
    reference_rejected_logps: Tensor | None = None,
    **hyperparameters: Any,
) -> PreferenceLoss:
    """The loss of every pair of a batch: h = beta (c_w r_w - c_l r_l), L = -log sigmoid(h).

    Args:
        method: a preset's name ("dpo", "adadpo") or a `Method`.
        chosen_logps: Float[pairs], nats: sum of the token log-probabilities of the chosen response.
        rejected_logps: Float[pairs], nats.
        chosen_lengths: Int[pairs]: scored tokens of the chosen response.
        rejected_lengths: Int[pairs].
        reference_chosen_logps: Float[pairs], nats: the same response under the reference model.
        reference_rejected_logps: Float[pairs], nats.
        **hyperparameters: on top of the method's own, by name: beta, balance, clip, ...

    Returns:
        Values in float32, or float64 for float64 inputs.

    Raises:
        ValueError: reference log-probabilities are missing, or a hyperparameter is impossible.

    Source: DPO, Rafailov et al. 2023 (arXiv 2305.18290) eq. 7; coefficients, AdaDPO (arXiv 2605.28440).
    """
    if isinstance(method, str):
        method = make_method(method, **hyperparameters)
    elif hyperparameters:
        method = Method(**{**method.model_dump(exclude_unset=True), **hyperparameters})
    if reference_chosen_logps is None or reference_rejected_logps is None:
        raise ValueError(f"{method.loss} needs reference_chosen_logps and reference_rejected_logps")

    # bfloat16 sums of hundreds of nats keep two digits: widen before anything is subtracted.
    chosen_logps, rejected_logps = _widen(chosen_logps), _widen(rejected_logps)
    chosen_log_ratio = chosen_logps - _widen(reference_chosen_logps)
    rejected_log_ratio = rejected_logps - _widen(reference_rejected_logps)

    balance = _balance(
        method,
        (chosen_logps, rejected_logps),
        (chosen_log_ratio, rejected_log_ratio),
        (chosen_lengths, rejected_lengths),
    )
    margin = place(method, chosen_log_ratio, balance.chosen) - place(
        method, rejected_log_ratio, balance.rejected
    )
    with torch.no_grad():
        # The geometric mean of |dL/dpi(token)| is beta sigmoid(-h) c / p, with p that of the token probabilities:
        # the ratio of the two sides is (c_w / c_l) (p_l / p_w).
        log_coefficient_ratio = balance.chosen.log() - balance.rejected.log()
        log_typical_ratio = rejected_logps / rejected_lengths - chosen_logps / chosen_lengths
    return PreferenceLoss(
        loss=-F.logsigmoid(method.beta * margin),
        chosen_coefficient=balance.chosen,
        rejected_coefficient=balance.rejected,
        clipped=balance.clipped,
        chosen_rewards=method.beta * chosen_log_ratio.detach(),
        rejected_rewards=method.beta * rejected_log_ratio.detach(),
        log_gradient_ratio=log_coefficient_ratio + log_typical_ratio,
    )


def _balance(
    method: Method,
    logps: tuple[Tensor, Tensor],
    log_ratios: tuple[Tensor, Tensor],
    lengths: tuple[Tensor, Tensor],
) -> Balance:
    """The coefficients that the method's `balance` asks for; 1 and 1 for "none"."""
    if method.balance == "none":
        one = torch.ones_like(logps[0])
        return Balance(one, one, torch.zeros_like(one, dtype=torch.bool))
    return coefficients(
        method, log_probability_ratio(method, *(log_ratios if method.balance_reference else logps), *lengths)
    )


def _widen(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
