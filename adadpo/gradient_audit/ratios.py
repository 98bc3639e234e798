"""The gradient audit (docs/audit.md): by how much the gradients of the two responses of a pair differ.

Four ratios, chosen over rejected, of the pairwise term of a loss, for each stage of its stabilisation. All are exact
functions of what `gradients` measures: with g = dL/ds, a response's gradient is |g| / pi(y_t) in a token's
probability, |g| ||onehot - softmax|| in its logits, |g| ||grad s|| in the parameters. What both sides share is in no
ratio: a loss whose sigmoid is saturated has them all the same.

CPO's and ORPO's NLL of the chosen response is no part of the pairwise term, is not balanced and is not audited.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from adadpo.gradient_audit.gradients import Measurement, ParameterGradients, Responses
from adadpo.method.losses import FORMULAS, Formula, PreferenceLoss, ResponseLogps, preference_loss
from adadpo.method.registry import BALANCE_OPTIONS, LOSSES, Method

Stage = Literal["base", "sequence", "per_token", "per_token_clipped", "as_trained"]
Ratio = Literal["probability", "geometric_mean", "arithmetic_mean", "logits", "parameters"]


class StageRatios(NamedTuple):
    """One stage's ratios, natural logarithms; NaN where one is not defined."""

    clipped: Tensor  # bool [pairs]; without a clip: beyond balance.LARGEST_LOG_RATIO
    log_ratios: dict[Ratio, Tensor]  # float64 [pairs], "parameters": float64 [measured pairs]


def stages_of(method: Method) -> dict[Stage, Method]:
    """The stages of a method, each as the method that has it.

    They are the base loss, its sequence and its per-token form without a clip, and the per-token form with the method's
    clip (of an unbalanced method: with the default clip). A loss that cannot be balanced has the first alone; a
    method that is none of these, such as a clipped sequence ratio, comes last, "as_trained".
    """
    own = method.identity()
    plain = {name: value for name, value in own.items() if name not in (*BALANCE_OPTIONS, "balance")}
    stages: dict[Stage, Method] = {"base": Method(**plain)}
    if LOSSES[method.loss].can_balance:
        options = {name: own[name] for name in BALANCE_OPTIONS if name in own and name != "clip"}
        stages["sequence"] = Method(**plain, **options, balance="sequence", clip=None)
        stages["per_token"] = Method(**plain, **options, balance="per_token", clip=None)
        stages["per_token_clipped"] = Method(**plain, **options, balance="per_token", clip=method.clip)
    if all(stage.identity() != own for stage in stages.values()):
        stages["as_trained"] = method
    return stages


def trained_stage(method: Method) -> Stage:
    """The stage that a method trains with."""
    own = method.identity()
    # Without a clip of its own, a per-token method is both of the last two.
    return next(name for name, stage in reversed(stages_of(method).items()) if stage.identity() == own)


def promised(method: Method) -> tuple[Ratio, ...]:
    """The ratios that are 1 by construction, where no bound on the coefficients is active.

    Per-token balance makes |dL/dp| equal for p = exp(s / n). For a score of sums that is the geometric mean over tokens
    of |dL/dpi(y_t)|; for a score of means the latter has 1 / n in it and is equal for responses of equal length only.
    Sequence balance equalises |dL/dpi(y|x)|, which is none of the four ratios, and `balance_reference` the
    probability relative to the reference's.
    """
    if method.balance != "per_token" or method.balance_reference:
        return ()
    return ("probability",) if FORMULAS[method.loss].averaged else ("probability", "geometric_mean")


def stage_ratios(
    method: Method,
    policy: Measurement,
    reference: Measurement | None,
    gradients: ParameterGradients | None = None,
    measured: Tensor | None = None,
) -> StageRatios:
    """The four ratios of one stage (the second one twice: geometric and arithmetic means over tokens).

    Args:
        method: a stage of `stages_of`.
        policy: from `gradients.measure_pairs`.
        reference: of the untrained model, same pairs; None for a loss without reference.
        gradients: from `gradients.measure_gradients`.
        measured: Int[measured pairs], the pairs that `gradients` is of.

    Returns:
        Undefined (NaN) are ratios of a pair with an empty response, and those of which one side's gradient is 0.
    """
    chosen, rejected = policy
    result = _loss(method, policy, reference)
    weights = log_weight_ratio(method, policy, reference, result)
    means = [side.logps / side.lengths for side in policy]
    ratios: dict[Ratio, Tensor] = {
        "probability": result.log_gradient_ratio,
        "geometric_mean": weights - means[0] + means[1],
        "arithmetic_mean": weights + chosen.log_mean_inverse - rejected.log_mean_inverse,
        "logits": weights + chosen.log_logits_norm - rejected.log_logits_norm,
    }
    empty = (chosen.lengths == 0) | (rejected.lengths == 0)
    ratios = {name: _defined(values.masked_fill(empty, torch.nan)) for name, values in ratios.items()}
    if gradients is not None and measured is not None:
        ratios["parameters"] = _defined(weights[measured] + gradients.log_norm_ratio)
    return StageRatios(result.clipped, ratios)


def cosine_of_terms(
    method: Method,
    policy: Measurement,
    reference: Measurement | None,
    gradients: ParameterGradients,
    measured: Tensor,
) -> Tensor:
    """Cosine between the parameter gradients of the chosen and of the rejected term; the same at every stage.

    One term lifts and the other pushes down, so it is minus the cosine between grad s_w and grad s_l: at -1 the two
    terms fight over one direction. SPPO's two terms have signs of their own.

    Returns:
        float64 [measured pairs], NaN where it is not defined. Arguments as for `stage_ratios`.
    """
    if FORMULAS[method.loss].log_pull_ratio is None:
        return -gradients.cosine
    logps = [side.logps.clone().requires_grad_() for side in policy]
    sides = [side._replace(logps=leaf) for side, leaf in zip(policy, logps, strict=True)]
    loss = _loss(method, Measurement(*sides), reference).loss
    pulls = torch.autograd.grad(loss.sum(), logps)
    signs = (pulls[0].sign() * pulls[1].sign())[measured]
    return gradients.cosine * torch.where(signs == 0, torch.nan, signs)


def log_weight_ratio(
    method: Method, policy: Measurement, reference: Measurement | None, result: PreferenceLoss
) -> Tensor:
    """Log |dL/ds_w| - log |dL/ds_l| of the pairwise term: float64 [pairs], nats."""
    formula = FORMULAS[method.loss]
    sides = [
        _response(side, None if reference is None else reference[number].logps)
        for number, side in enumerate(policy)
    ]
    ratio = result.chosen_coefficient.log() - result.rejected_coefficient.log()
    ratio = ratio + _log_slope(formula, sides[0]) - _log_slope(formula, sides[1])
    if formula.log_pull_ratio is not None:
        ratio = ratio + formula.log_pull_ratio(method, *sides)
    return ratio


def _log_slope(formula: Formula, side: ResponseLogps) -> Tensor:
    """Log |du/ds|."""
    logps = side.logps.detach().clone().requires_grad_()
    moved = ResponseLogps(logps, side.lengths, side.log_ratio.detach() + (logps - logps.detach()))
    (slope,) = torch.autograd.grad(formula.score(moved).sum(), logps)
    return slope.abs().log()


def _response(side: Responses, reference: Tensor | None) -> ResponseLogps:
    return ResponseLogps(
        side.logps, side.lengths, side.logps if reference is None else side.logps - reference
    )


def _loss(method: Method, policy: Measurement, reference: Measurement | None) -> PreferenceLoss:
    return preference_loss(
        method,
        chosen_logps=policy.chosen.logps,
        rejected_logps=policy.rejected.logps,
        chosen_lengths=policy.chosen.lengths,
        rejected_lengths=policy.rejected.lengths,
        reference_chosen_logps=None if reference is None else reference.chosen.logps,
        reference_rejected_logps=None if reference is None else reference.rejected.logps,
    )


def _defined(values: Tensor) -> Tensor:
    return values.where(values.isfinite(), torch.nan)
