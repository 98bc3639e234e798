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
        `kl` (k1) and `kl_k3`: nats per response; `kl_per_token` and `kl_k3_per_token`: nats per token of all
        responses together; each with its standard error over responses, `..._se` (None for fewer than 2; for the
        per-token ratios by the delta method, Cochran, "Sampling Techniques", 1977, section 6.3); `responses`, `empty`.
    """
    used = [d.double() for d in log_ratios if len(d)]
    found: dict[str, float | int | None] = {"responses": len(used), "empty": len(log_ratios) - len(used)}
    lengths = torch.tensor([float(len(d)) for d in used], dtype=torch.float64)
    sums = {
        "kl": [d.sum() for d in used],
        "kl_k3": [(torch.expm1(-d) + d).sum() for d in used],
    }
    for name, per_response in sums.items():
        values = torch.stack(per_response) if used else torch.empty(0, dtype=torch.float64)
        per_token = values.sum() / lengths.sum()
        found |= {
            name: values.mean().item() if used else None,
            f"{name}_se": _standard_error(values),
            f"{name}_per_token": per_token.item() if used else None,
            f"{name}_per_token_se": _standard_error((values - per_token * lengths) / lengths.mean()),
        }
    return found


def _standard_error(values: Tensor) -> float | None:
    return (values.std(correction=1) / math.sqrt(len(values))).item() if len(values) > 1 else None
