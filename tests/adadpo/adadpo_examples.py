"""Small data and independent computations that several tests share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from adadpo.data.pairs import Pair

TIPS = ["water", "go for a walk", "make a plan", "I think rice", "a glass of water and a friend"]


def chat(user: str, chosen: str, rejected: str) -> Pair:
    return Pair(
        [{"role": "user", "content": user}],
        [{"role": "assistant", "content": chosen}],
        [{"role": "assistant", "content": rejected}],
    )


def chats(count: int) -> list[Pair]:
    """Conversations of varied lengths, no two alike."""
    return [
        chat(
            f"Give me a tip for day {i}" + " and say why it works" * (i % 3),
            f"{TIPS[i % 5]} {i} " * (1 + i % 4),
            f"{TIPS[(i + 2) % 5]} " * (1 + (2 * i) % 3) + str(i),
        )
        for i in range(count)
    ]


def rows(pairs: list[Pair]) -> list[dict[str, Any]]:
    """As a data set's user has them."""
    return [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs]


def plain_token_logps(model: Any, prompt: list[int], response: list[int]) -> Tensor:
    """The independent source: one sequence alone, no padding, transformers' own forward and all its logits."""
    ids = torch.tensor([prompt + response], device=model.device)
    logits = model(input_ids=ids).logits.float()
    logps = torch.log_softmax(logits[0, :-1], dim=-1).gather(1, ids[0, 1:, None]).squeeze(1)
    return logps[max(len(prompt), 1) - 1 :]
