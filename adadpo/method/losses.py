"""Preference losses as pure functions of log-probabilities.

Every loss is a row of `FORMULAS`: a score u per response, and the loss of the margin c_w u_w - c_l u_l. Balancing is
the same for all of them (see `balance`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from adadpo.method.balance import Balance, apply_coefficient, balanced_log_probability, coefficients
from adadpo.method.registry import LossName, Method, make_method

# The largest log-probability of which the odds are taken: 1 - p is then 1e-6, and its gradient still finite.
LARGEST_LOG_P = -1e-6


class PreferenceLoss(NamedTuple):
    """One batch's loss and what explains it; every field has shape [pairs], only `loss` carries a gradient."""

    loss: Tensor
    chosen_coefficient: Tensor  # c_w; 1 without balance
    rejected_coefficient: Tensor  # c_l; 1 without balance
    clipped: Tensor  # bool: the clip bound the ratio
    chosen_rewards: Tensor  # beta u_w; for DPO the implicit reward beta r_w, in nats
    rejected_rewards: Tensor  # beta u_l
    # log of |dL/dp_w| over |dL/dp_l| of the pairwise term, p = exp(s / n): for scores of sums the geometric mean over
    # tokens of |dL/dpi(token)|, for scores of means the derivative in p itself; 0 = balanced
    log_gradient_ratio: Tensor


class ResponseLogps(NamedTuple):
    """One side of a batch of pairs; every field has shape [pairs]."""

    logps: Tensor  # s, nats
    lengths: Tensor  # n, scored tokens
    log_ratio: Tensor  # r = s - s_ref, nats; s for a loss without reference

    @property
    def mean_logp(self) -> Tensor:
        """The per-token mean a = s / n, nats; 0 for a response without scored tokens."""
        return self.logps / self.lengths.clamp(min=1)


class Formula(NamedTuple):
    """One loss."""

    score: Callable[[ResponseLogps], Tensor]  # u / beta
    loss: Callable[[Method, Tensor, ResponseLogps, ResponseLogps], Tensor]  # of the margin; [pairs]
    # log |du/dp| as a function of log p, up to what both responses share
    log_sensitivity: Callable[[Tensor], Tensor] = torch.neg  # u linear in log p: 1 / p
    # log |dL/du_w| - log |dL/du_l|, 0 where the loss is a function of u_w - u_l alone
    log_pull_ratio: Callable[[Method, ResponseLogps, ResponseLogps], Tensor] | None = None
    averaged: bool = False  # the score is a mean over tokens: a token's own gradient has 1 / n in it


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
    """The loss of every pair of a batch. For DPO: h = beta (c_w r_w - c_l r_l), L = -log sigmoid(h).

    Args:
        method: a preset's name ("dpo", "adadpo", "adasimpo", ...; see `methods.PRESETS`) or a `Method`.
        chosen_logps: Float[pairs], nats: sum of the token log-probabilities of the chosen response.
        rejected_logps: Float[pairs], nats.
        chosen_lengths: Int[pairs]: scored tokens of the chosen response.
        rejected_lengths: Int[pairs].
        reference_chosen_logps: Float[pairs], nats: the same response under the reference model. A loss that has no
            reference (CPO, SimPO, ORPO) does not look at it.
        reference_rejected_logps: Float[pairs], nats.
        **hyperparameters: on top of the method's own, by name: beta, balance, clip, ...

    Returns:
        Values in float32, or float64 for float64 inputs. Finite, with their gradients, for log-probabilities from -1e4
        to 0: what float16 cannot hold of a gradient becomes its largest number.

    Raises:
        ValueError: reference log-probabilities are missing, or a hyperparameter is impossible.

    Source: the papers named in `methods.LOSSES`; coefficients, AdaDPO (arXiv 2605.28440), for losses beyond DPO by the
    rule in `balance`, which is this project's generalisation.
    """
    if isinstance(method, str):
        method = make_method(method, **hyperparameters)
    elif hyperparameters:
        method = Method(**{**method.model_dump(exclude_unset=True), **hyperparameters})
    if method.needs_reference and (reference_chosen_logps is None or reference_rejected_logps is None):
        raise ValueError(f"{method.loss} needs reference_chosen_logps and reference_rejected_logps")
    references = (reference_chosen_logps, reference_rejected_logps) if method.needs_reference else (None,) * 2
    chosen = _response(chosen_logps, chosen_lengths, references[0])
    rejected = _response(rejected_logps, rejected_lengths, references[1])
    formula = FORMULAS[method.loss]
    balance = _balance(method, formula, chosen, rejected)
    scores = formula.score(chosen), formula.score(rejected)
    margin = apply_coefficient(method, scores[0], balance.chosen) - apply_coefficient(
        method, scores[1], balance.rejected
    )
    with torch.no_grad():
        log_gradient_ratio = balance.chosen.log() - balance.rejected.log()
        log_gradient_ratio += formula.log_sensitivity(chosen.mean_logp)
        log_gradient_ratio -= formula.log_sensitivity(rejected.mean_logp)
        if formula.log_pull_ratio is not None:
            log_gradient_ratio += formula.log_pull_ratio(method, chosen, rejected)
    return PreferenceLoss(
        loss=formula.loss(method, margin, chosen, rejected),
        chosen_coefficient=balance.chosen,
        rejected_coefficient=balance.rejected,
        clipped=balance.clipped,
        chosen_rewards=method.beta * scores[0].detach(),
        rejected_rewards=method.beta * scores[1].detach(),
        log_gradient_ratio=log_gradient_ratio,
    )


def _response(logps: Tensor, lengths: Tensor, reference: Tensor | None) -> ResponseLogps:
    # bfloat16 sums of hundreds of nats keep two digits: widen before anything is subtracted.
    logps = _widen(logps)
    return ResponseLogps(logps, lengths, logps if reference is None else logps - _widen(reference))


def _widen(values: Tensor) -> Tensor:
    if values.dtype in (torch.float32, torch.float64):
        return values
    wide = values.float()
    if wide.requires_grad and values.dtype == torch.float16:
        largest = torch.finfo(torch.float16).max
        wide.register_hook(lambda gradient: gradient.clamp(-largest, largest))  # NaN stays NaN
    return wide


def _balance(method: Method, formula: Formula, chosen: ResponseLogps, rejected: ResponseLogps) -> Balance:
    """The coefficients that the method's `balance` asks for; 1 and 1 for "none"."""
    if method.balance == "none":
        one = torch.ones_like(chosen.logps)
        return Balance(one, one, torch.zeros_like(one, dtype=torch.bool))
    sensitivity = [
        formula.log_sensitivity(
            balanced_log_probability(
                method, side.log_ratio if method.balance_reference else side.logps, side.lengths
            )
        )
        for side in (chosen, rejected)
    ]
    return coefficients(method, sensitivity[1] - sensitivity[0])


def _log_odds(log_p: Tensor) -> Tensor:
    """log(p / (1 - p)), finite up to p = 1."""
    log_p = log_p.clamp(max=LARGEST_LOG_P)
    return log_p - _log1mexp(log_p)


def _log1mexp(log_p: Tensor) -> Tensor:
    """log(1 - exp(log_p)) for log_p < 0, accurate at both ends (Maechler 2012)."""
    return torch.where(log_p > -math.log(2), torch.log(-torch.expm1(log_p)), torch.log1p(-torch.exp(log_p)))


def _odds_log_sensitivity(log_p: Tensor) -> Tensor:
    """D log odds / dp = 1 / (p (1 - p))."""
    log_p = log_p.clamp(max=LARGEST_LOG_P)
    return -log_p - _log1mexp(log_p)


def _dpop_penalty(method: Method, chosen: ResponseLogps) -> Tensor:
    return method.dpop_lambda * torch.relu(-chosen.log_ratio)


def _sppo_errors(method: Method, chosen: ResponseLogps, rejected: ResponseLogps) -> tuple[Tensor, Tensor]:
    """Distances to the targets (P - 1/2) / beta for P = 1 and P = 0."""
    return chosen.log_ratio - 0.5 / method.beta, rejected.log_ratio + 0.5 / method.beta


def _dpo(method: Method, margin: Tensor, chosen: ResponseLogps, rejected: ResponseLogps) -> Tensor:
    return -F.logsigmoid(method.beta * margin)


def _rdpo(method: Method, margin: Tensor, chosen: ResponseLogps, rejected: ResponseLogps) -> Tensor:
    # The reward r - alpha n makes the longer response the better one by alpha n in the implicit reward.
    longer = (chosen.lengths - rejected.lengths).to(margin.dtype)  # int times float would be float32
    return -F.logsigmoid(method.beta * margin + method.rdpo_alpha * longer)


def _ipo(method: Method, margin: Tensor, chosen: ResponseLogps, rejected: ResponseLogps) -> Tensor:
    return (margin - 1 / (2 * method.beta)) ** 2


def _cpo(method: Method, margin: Tensor, chosen: ResponseLogps, rejected: ResponseLogps) -> Tensor:
    return -F.logsigmoid(method.beta * margin) - method.cpo_alpha * chosen.mean_logp


def _simpo(method: Method, margin: Tensor, chosen: ResponseLogps, rejected: ResponseLogps) -> Tensor:
    return -F.logsigmoid(method.beta * margin - method.simpo_gamma)


def _orpo(method: Method, margin: Tensor, chosen: ResponseLogps, rejected: ResponseLogps) -> Tensor:
    return -method.beta * F.logsigmoid(margin) - chosen.mean_logp


def _dpop(method: Method, margin: Tensor, chosen: ResponseLogps, rejected: ResponseLogps) -> Tensor:
    return -F.logsigmoid(method.beta * (margin - _dpop_penalty(method, chosen)))


def _dpop_log_pull_ratio(method: Method, chosen: ResponseLogps, rejected: ResponseLogps) -> Tensor:
    return math.log1p(method.dpop_lambda) * (chosen.log_ratio < 0).to(chosen.log_ratio.dtype)


def _sppo(method: Method, margin: Tensor, chosen: ResponseLogps, rejected: ResponseLogps) -> Tensor:
    errors = _sppo_errors(method, chosen, rejected)
    return 0.5 * (errors[0] ** 2 + errors[1] ** 2)


def _sppo_log_pull_ratio(method: Method, chosen: ResponseLogps, rejected: ResponseLogps) -> Tensor:
    tiny = torch.finfo(chosen.logps.dtype).tiny  # a response that is on its target pulls not at all
    errors = [error.abs().clamp_min(tiny).log() for error in _sppo_errors(method, chosen, rejected)]
    return errors[0] - errors[1]


def _log_ratio(response: ResponseLogps) -> Tensor:
    return response.log_ratio


def _mean_log_ratio(response: ResponseLogps) -> Tensor:
    return response.log_ratio / response.lengths.clamp(min=1)


def _mean_log_odds(response: ResponseLogps) -> Tensor:
    return _log_odds(response.mean_logp)


FORMULAS: dict[LossName, Formula] = {
    "dpo": Formula(_log_ratio, _dpo),
    "rdpo": Formula(_log_ratio, _rdpo),
    "ipo": Formula(
        _mean_log_ratio, _ipo, averaged=True
    ),  # averaged over tokens, as its authors confirmed and TRL does
    "cpo": Formula(_log_ratio, _cpo),
    "simpo": Formula(_mean_log_ratio, _simpo, averaged=True),
    "orpo": Formula(_mean_log_odds, _orpo, _odds_log_sensitivity, averaged=True),
    "dpop": Formula(_log_ratio, _dpop, log_pull_ratio=_dpop_log_pull_ratio),
    "sppo": Formula(_log_ratio, _sppo, log_pull_ratio=_sppo_log_pull_ratio),
}
