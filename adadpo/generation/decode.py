"""Decoding token by token: rows that have ended leave the batch, and every prompt has random numbers of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from adadpo.config import Decoding
from adadpo.generation.responses import derived_seed
from adadpo.logprobs import backbone, token_logits

# Float[rows, vocabulary] logits, the step and the rows' lines in the batch, to Int[rows] tokens.
Choose: TypeAlias = Callable[[Tensor, int, list[int]], Tensor]

# Shrinking the batch copies the cache, so it waits until this share of its rows has ended.
ENDED_SHARE = 1 / 8


def decode(
    model: Any,
    prompts: Sequence[list[int]],
    choose: Choose,
    *,
    ends: Sequence[int],
    pad_token_id: int,
    max_new_tokens: int,
) -> list[list[int]]:
    """Continue every prompt until an end token or `max_new_tokens`.

    Args:
        model: a causal language model of transformers, or its PEFT wrapper, in evaluation mode.
        prompts: token ids.
        choose: the next tokens from float32 logits.
        ends: ids of the tokens that end a response.
        pad_token_id: of the tokenizer.
        max_new_tokens: at least 1.

    Returns:
        The new token ids of each prompt, the end token included when there is one.
    """
    found: list[list[int]] = [[] for _ in prompts]
    lines = list(range(len(prompts)))  # of the rows that are still in the batch
    tokens, mask = pad_left(prompts, pad_token_id)
    tokens, mask = tokens.to(model.device), mask.to(model.device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    transformer, cache = backbone(model), DynamicCache(config=model.config)
    for step in range(max_new_tokens):
        hidden = transformer(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        # Contiguous rows: from a slice, torch copies the output head once for every row, gigabytes.
        chosen = choose(token_logits(model, hidden[:, -1].contiguous()), step, lines)
        going = []
        for row, (line, token) in enumerate(zip(lines, chosen.tolist(), strict=True)):
            if not (found[line] and found[line][-1] in ends):
                found[line].append(token)
                if token not in ends:
                    going.append(row)
        if not going:
            break
        tokens, positions = chosen[:, None], positions[:, -1:] + 1
        if len(lines) - len(going) >= ENDED_SHARE * len(lines):
            kept = torch.tensor(going, device=tokens.device)
            cache.batch_select_indices(kept)
            tokens, positions, mask = tokens[kept], positions[kept], mask[kept]
            lines = [lines[row] for row in going]
        mask = torch.cat([mask, mask.new_ones(len(lines), 1)], 1)
    return found


def pad_left(rows: Sequence[list[int]], pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Int[rows, L] ids and attention mask, padding in front."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad_token_id] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def chooser(decoding: Decoding, places: Sequence[int]) -> Choose:
    """How a decoding picks tokens.

    Args:
        decoding: temperature 0 is greedy.
        places: of the batch's prompts among all of them: a prompt's random numbers depend on the decoding's seed and
            its place alone, not on what else is in the batch.
    """
    if decoding.temperature == 0:
        return lambda logits, step, lines: logits.argmax(-1)
    uniforms = np.stack(
        [
            np.random.Generator(np.random.Philox(derived_seed(decoding.seed, place))).random(
                decoding.max_new_tokens
            )
            for place in places
        ]
    )

    def choose(logits: Tensor, step: int, lines: list[int]) -> Tensor:
        drawn = torch.from_numpy(uniforms[lines, step]).to(logits.device)
        return sample(logits, drawn, temperature=decoding.temperature, top_p=decoding.top_p)

    return choose


def sample(logits: Tensor, uniforms: Tensor, *, temperature: float, top_p: float = 1.0) -> Tensor:
    """Tokens by inversion of the cumulative distribution: one uniform number a row.

    torch.multinomial draws a number for every token of the vocabulary, which on a CPU costs more than a model's layers.

    Args:
        logits: Float[rows, vocabulary].
        uniforms: float64 [rows] in [0, 1).
        temperature: above 0.
        top_p: the fewest most likely tokens whose probabilities reach it are drawn from.

    Returns:
        Int[rows].

    Source: top-p, Holtzman et al. (2020), The curious case of neural text degeneration, section 3.1.
    """
    probabilities = torch.softmax(logits / temperature, -1)
    if top_p < 1:
        ranked, order = probabilities.sort(-1, descending=True)
        before = ranked.cumsum(-1, dtype=torch.float64) - ranked
        ranked = ranked.masked_fill(before >= top_p, 0)
        probabilities = torch.zeros_like(probabilities).scatter(-1, order, ranked)
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    # right: the first token whose cumulative probability is above the number, so that none of probability 0 is drawn
    drawn = torch.searchsorted(cumulative, (uniforms * cumulative[:, -1])[:, None], right=True)[:, 0]
    return drawn.clamp(max=logits.shape[-1] - 1)
