"""How far a policy moved: KL(pi || pi_ref) estimated on the policy's own responses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def kl_estimates(log_ratios: Sequence[Tensor]) -> dict[str, float | int | None]:
    """Monte-Carlo estimates from token log-ratios d = log pi - log pi_ref of sampled responses.

    k1 is the mean of d, k3 the mean of exp(-d) - 1 + d, which is never negative (Schulman, "Approximating KL
    divergence", 2020). Both are summed over a response's tokens. They are unbiased for samples drawn at temperature 1;
    at another temperature they describe the generated text.

    Args:
        log_ratios: Float[tokens] for each response, nats; empty responses are left out and counted.

    Returns:
        `kl` (k1), `kl_k3`: nats per response; `kl_per_token`: nats; their standard errors over responses (None for
        fewer than 2); `responses`, `empty`.
    """
    used = [d.double() for d in log_ratios if len(d)]
    if not used:
        return {"kl": None, "kl_se": None, "kl_k3": None, "kl_k3_se": None, "kl_per_token": None,
                "responses": 0, "empty": len(log_ratios)}  # fmt: skip
    k1 = torch.stack([d.sum() for d in used])
    k3 = torch.stack([(torch.expm1(-d) + d).sum() for d in used])
    return {
        "kl": k1.mean().item(),
        "kl_se": _standard_error(k1),
        "kl_k3": k3.mean().item(),
        "kl_k3_se": _standard_error(k3),
        "kl_per_token": (k1.sum() / sum(map(len, used))).item(),
        "responses": len(used),
        "empty": len(log_ratios) - len(used),
    }


def _standard_error(values: Tensor) -> float | None:
    return (values.std(correction=1) / math.sqrt(len(values))).item() if len(values) > 1 else None
