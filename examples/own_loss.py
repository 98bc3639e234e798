"""A loss of one's own with AdaDPO's balance: a hinge on the balanced margin, trained on a toy policy.

    python examples/own_loss.py

`preference_loss` returns the coefficients that balance the two sides; any loss of the margin can use them. A loss that
a sweep can name is a row of two tables: see CONTRIBUTING.md, "Add a loss".
"""

from __future__ import annotations

import torch
from torch import Tensor

from adadpo import preference_loss

TOKENS, STEPS, BETA = 6, 40, 0.5


def hinge(method: str, chosen: Tensor, rejected: Tensor, reference: tuple[Tensor, Tensor]) -> Tensor:
    """max(0, 1 - beta (c_w r_w - c_l r_l)) with the coefficients of `method`; no gradient flows through them."""
    lengths = torch.full(chosen.shape, TOKENS)
    balance = preference_loss(
        method,
        chosen_logps=chosen,
        rejected_logps=rejected,
        chosen_lengths=lengths,
        rejected_lengths=lengths,
        reference_chosen_logps=reference[0],
        reference_rejected_logps=reference[1],
    )
    margin = balance.chosen_coefficient * (chosen - reference[0]) - balance.rejected_coefficient * (
        rejected - reference[1]
    )
    return torch.relu(1 - BETA * margin).mean()


def train(method: str) -> tuple[float, float]:
    """By how much training moved the log-probabilities of the chosen and of the rejected response, in nats."""
    torch.manual_seed(0)
    logits = torch.randn(TOKENS, 10, requires_grad=True)  # a policy over 10 words at each of 6 places
    chosen, rejected = torch.randint(10, (2, 4, TOKENS))  # 4 preference pairs

    def logp(responses: Tensor) -> Tensor:
        return logits.log_softmax(-1)[torch.arange(TOKENS), responses].sum(-1)

    reference = logp(chosen).detach(), logp(rejected).detach()
    optimizer = torch.optim.SGD([logits], lr=0.5)
    for _ in range(STEPS):
        optimizer.zero_grad()
        hinge(method, logp(chosen), logp(rejected), reference).backward()
        optimizer.step()
    with torch.no_grad():
        return (logp(chosen) - reference[0]).mean().item(), (logp(rejected) - reference[1]).mean().item()


if __name__ == "__main__":
    for name in ("dpo", "adadpo"):
        up, down = train(name)
        print(f"hinge with the coefficients of {name}: chosen {up:+.2f} nats, rejected {down:+.2f} nats")
