"""Responses to prompts, reproducible for a decoding, and how far the policy moved from the reference on them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adadpo.config import Decoding
from adadpo.data import Text
from adadpo.logprobs import row_logps
from adadpo.tokens import encode

Progress = Callable[[int, int], None]  # done, total

# A model's own generation settings (Qwen2.5 brings repetition_penalty 1.05) would bend the distribution unseen.
PLAIN = {
    "min_length": 0,
    "min_p": None,
    "no_repeat_ngram_size": 0,
    "num_beams": 1,
    "repetition_penalty": 1.0,
    "typical_p": 1.0,
}


@dataclass(frozen=True)
class Response:
    """One generated response."""

    text: str
    token_ids: list[int]  # the end token included when the model produced one
    finished: bool  # False: cut at max_new_tokens


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Text],
    decoding: Decoding,
    on_progress: Progress = lambda done, total: None,
) -> list[Response]:
    """Responses in the order of the prompts.

    Prompts are batched by length. Each batch has a random state of its own, made of the decoding's seed and the
    batch's place: two models that give equal probabilities give equal responses, whatever ran before.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer.
        prompts: text or messages.
        decoding: temperature 0 is greedy; no top-k or penalty is ever applied, whatever the model declares.
        on_progress: called with prompts done and prompts in all.
    """
    ids = [encode(tokenizer, prompt, generation_prompt=True) for prompt in prompts]
    order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
    ends = end_tokens(model, tokenizer)
    responses: list[Response | None] = [None] * len(ids)
    for number, start in enumerate(range(0, len(order), decoding.batch_size)):
        indices = order[start : start + decoding.batch_size]
        input_ids, attention_mask = pad_left([ids[i] for i in indices], tokenizer.pad_token_id)
        seed = int.from_bytes(hashlib.sha256(f"{decoding.seed}/{number}".encode()).digest()[:4])
        sampling = {
            "do_sample": True,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "top_k": 0,
        }
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(seed)
            sequences = model.generate(
                input_ids=input_ids.to(model.device),
                attention_mask=attention_mask.to(model.device),
                max_new_tokens=decoding.max_new_tokens,
                eos_token_id=ends,
                pad_token_id=tokenizer.pad_token_id,
                **PLAIN,
                **(sampling if decoding.temperature > 0 else {"do_sample": False}),
            )
        for index, row in zip(indices, sequences[:, input_ids.shape[1] :].tolist(), strict=True):
            responses[index] = _response(row, ends, tokenizer)
        on_progress(min(start + decoding.batch_size, len(order)), len(order))
    return [response for response in responses if response is not None]


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends a response: the tokenizer's and those of the model's generation settings."""
    declared = model.generation_config.eos_token_id
    declared = [] if declared is None else [declared] if isinstance(declared, int) else list(declared)
    return sorted({tokenizer.eos_token_id, *declared})


def pad_left(rows: Sequence[list[int]], pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Int[rows, L] ids and attention mask, padding in front."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad_token_id] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


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


def _response(row: list[int], ends: Sequence[int], tokenizer: Any) -> Response:
    end = next((place for place, token in enumerate(row) if token in ends), None)
    token_ids = row if end is None else row[: end + 1]
    return Response(tokenizer.decode(token_ids, skip_special_tokens=True).strip(), token_ids, end is not None)
