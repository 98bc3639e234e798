"""Responses to prompts, reproducible for a decoding, and how far the policy moved from the reference on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from adadpo.config import Decoding
from adadpo.data.pairs import Text
from adadpo.data.tokens import encode
from adadpo.generation.decode import chooser, decode, pad_left
from adadpo.generation.responses import Progress, Response, cut_response, in_batches
from adadpo.logprobs import row_logps


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Text],
    decoding: Decoding,
    on_progress: Progress = lambda done, total: None,
    partial: Path | None = None,
) -> list[Response]:
    """Responses of transformers in the order of the prompts.

    Prompts are batched by length. A prompt's random numbers are made of the decoding's seed and its place: two models
    that give equal probabilities give equal responses, whatever ran before. A call that was killed and is made again
    with the same `partial` gives what it would have given.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer.
        prompts: text or messages.
        decoding: temperature 0 is greedy; no top-k or penalty is ever applied, whatever the model declares.
        on_progress: called with prompts done and prompts in all.
        partial: file that keeps finished batches, see `in_batches`; None: nothing is kept. Of one model only.

    Returns:
        One response per prompt.

    Raises:
        DataError: a prompt cannot be tokenised as the model needs it, see `encode`.
        OSError: the partial file cannot be read or written.
        ValueError: the decoding is another engine's.
    """
    if decoding.engine != "transformers":
        raise ValueError(f"decoding.engine is {decoding.engine!r}: not for transformers to answer")
    ids = [encode(tokenizer, prompt, generation_prompt=True) for prompt in prompts]
    ends = end_tokens(model, tokenizer)

    def answer(number: int, places: list[int]) -> list[Response]:
        with torch.inference_mode():
            rows = decode(
                model,
                [ids[i] for i in places],
                chooser(decoding, places),
                ends=ends,
                pad_token_id=tokenizer.pad_token_id,
                max_new_tokens=decoding.max_new_tokens,
            )
        return [cut_response(row, ends, tokenizer) for row in rows]

    # Another version or precision rounds otherwise: mixed responses would belong to neither.
    made_by = [torch.__version__, transformers.__version__, str(model.dtype), model.device.type, ends]
    return in_batches(ids, decoding, answer, made_by, on_progress=on_progress, partial=partial)


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends a response: the tokenizer's and those of the model's generation settings."""
    declared = model.generation_config.eos_token_id
    declared = [] if declared is None else [declared] if isinstance(declared, int) else list(declared)
    return sorted({tokenizer.eos_token_id, *declared})


def token_log_ratios(
    policy: Any,
    reference: Any,
    tokenizer: Any,
    prompts: Sequence[Text],
    responses: Sequence[Response],
    *,
    batch_size: int = 16,
    on_progress: Progress = lambda done, total: None,
) -> list[Tensor]:
    """Log pi(token) - log pi_ref(token) for every token of every response: float32 [tokens] each, nats."""
    rows = [
        (encode(tokenizer, prompt, generation_prompt=True), response.token_ids)
        for prompt, response in zip(prompts, responses, strict=True)
    ]
    order = sorted(
        (i for i in range(len(rows)) if rows[i][1]), key=lambda i: -len(rows[i][0]) - len(rows[i][1])
    )
    found = [torch.zeros(0)] * len(rows)
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        input_ids, attention = pad_left([rows[i][0] + rows[i][1] for i in indices], tokenizer.pad_token_id)
        completion = torch.zeros_like(input_ids)
        for line, i in enumerate(indices):
            completion[line, -len(rows[i][1]) :] = 1
        batch = [tensor.to(policy.device) for tensor in (input_ids, attention, completion)]
        with torch.inference_mode():
            difference = (row_logps(policy, *batch) - row_logps(reference, *batch)).cpu()
        for line, i in enumerate(indices):
            found[i] = difference[line, -len(rows[i][1]) :]
        on_progress(min(start + batch_size, len(order)), len(order))
    return found
