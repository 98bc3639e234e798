"""Log-probabilities of completions, with the output head on completion positions only.

A pair's two responses share their prompt. `packed` puts prompt, chosen and rejected in one row with a mask that hides
chosen from rejected, so the prompt is computed once; `rows` scores independent rows, as generation needs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor


class PairLogps(NamedTuple):
    """Sums over the scored tokens, float32 [pairs] in nats, and the number of those tokens, [pairs]."""

    chosen: Tensor
    rejected: Tensor
    chosen_lengths: Tensor
    rejected_lengths: Tensor


class PackedPairs(NamedTuple):
    """One row per pair: prompt, chosen, rejected, padding."""

    input_ids: Tensor  # Int[pairs, T]
    position_ids: Tensor  # Int[pairs, T]: rejected restarts where the prompt ended
    attention_mask: Tensor  # Bool[pairs, 1, T, T]: True where a query (dim 2) sees a key (dim 3)
    row: Tensor  # Int[N]: for every scored token its row,
    predictor: Tensor  # Int[N]: the position whose hidden state predicts it,
    target: Tensor  # Int[N]: its id,
    response: Tensor  # Int[N]: and its response: row for chosen, pairs + row for rejected


def pack_pairs(batch: dict[str, Tensor]) -> PackedPairs:
    """A packed copy of TRL's preference batch.

    Args:
        batch: `input_ids`, `attention_mask`, `completion_mask`, each Int[2 pairs, L], chosen rows first, right-padded.

    Raises:
        ValueError: a pair's two rows do not share their prompt (truncation_mode="keep_end").
    """
    ids, lengths = batch["input_ids"], batch["attention_mask"].sum(1).tolist()
    prompts = batch["completion_mask"].argmax(1).tolist()
    pairs = ids.shape[0] // 2
    spans = []
    for i in range(pairs):
        prompt, chosen_end, rejected_end = prompts[i], lengths[i], lengths[pairs + i]
        if prompt != prompts[pairs + i] or not torch.equal(ids[i, :prompt], ids[pairs + i, :prompt]):
            raise ValueError("a pair's chosen and rejected rows must share their prompt to be packed")
        spans.append((prompt, chosen_end - prompt, rejected_end - prompt))
    width = max(sum(span) for span in spans)
    device = ids.device
    input_ids = torch.zeros(pairs, width, dtype=torch.long, device=device)
    position_ids = torch.zeros(pairs, width, dtype=torch.long, device=device)
    mask = torch.ones(width, width, dtype=torch.bool, device=device).tril().repeat(pairs, 1, 1)
    row, predictor, target, response = [], [], [], []
    for i, (prompt, chosen, rejected) in enumerate(spans):
        middle, end = prompt + chosen, prompt + chosen + rejected
        first = 0 if prompt else 1  # nothing predicts a row's first token: it is not scored, as in TRL
        input_ids[i, :middle] = ids[i, :middle]
        input_ids[i, middle:end] = ids[pairs + i, prompt : prompt + rejected]
        position_ids[i, :middle] = torch.arange(middle, device=device)
        position_ids[i, middle:end] = torch.arange(prompt, prompt + rejected, device=device)
        mask[i, middle:end, prompt:middle] = False
        # The last prompt position predicts the first token of both responses.
        predictor += [torch.arange(prompt - 1 + first, middle - 1), torch.full((1 - first,), prompt - 1)]
        predictor += [torch.arange(middle, end - 1)]
        row.append(torch.full((chosen + rejected - 2 * first,), i))
        target += [input_ids[i, prompt + first : middle], input_ids[i, middle + first : end]]
        response += [torch.full((chosen - first,), i), torch.full((rejected - first,), pairs + i)]
    return PackedPairs(
        input_ids,
        position_ids,
        mask[:, None],
        torch.cat(row).to(device),
        torch.cat(predictor).to(device),
        torch.cat(target),
        torch.cat(response).to(device),
    )


def packed_pair_logps(model: Any, batch: dict[str, Tensor]) -> PairLogps:
    """Log-probabilities of both responses of every pair, the shared prompt computed once.

    Args:
        model: a causal language model of transformers (or its PEFT wrapper), not wrapped for several processes.
        batch: as for `pack_pairs`.

    Raises:
        ValueError: the model's attention cannot take the mask of a packed row.
    """
    _check_attention(model, batch["input_ids"].shape[1])
    packed = pack_pairs(batch)
    with _attention(model, packed.attention_mask) as mask:
        hidden = backbone(model)(
            input_ids=packed.input_ids,
            position_ids=packed.position_ids,
            attention_mask=mask,
            use_cache=False,
        ).last_hidden_state
    token_logps = score_tokens(model, hidden[packed.row, packed.predictor], packed.target)
    pairs = packed.input_ids.shape[0]
    sums = token_logps.new_zeros(2 * pairs).index_add(0, packed.response, token_logps)
    lengths = torch.bincount(packed.response, minlength=2 * pairs)
    return PairLogps(*sums.chunk(2), *lengths.chunk(2))


def row_logps(model: Any, input_ids: Tensor, attention_mask: Tensor, completion_mask: Tensor) -> Tensor:
    """Token log-probabilities of independent rows.

    Args:
        model: a causal language model of transformers, or its PEFT wrapper.
        input_ids: Int[rows, L]; padding on either side.
        attention_mask: Int[rows, L].
        completion_mask: Int[rows, L], 1 on the tokens to score; never the first position.

    Returns:
        float32 [rows, L - 1], nats; entry t scores token t + 1; 0 where nothing is scored.
    """
    position_ids = (attention_mask.cumsum(1) - 1).clamp(min=0)
    hidden = backbone(model)(
        input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=False
    ).last_hidden_state
    scored = completion_mask[:, 1:].bool()
    token_logps = score_tokens(model, hidden[:, :-1][scored], input_ids[:, 1:][scored])
    return token_logps.new_zeros(scored.shape).masked_scatter(scored, token_logps)


def score_tokens(model: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    """Log p(target) from hidden states [N, H] and ids [N]: [N], nats, float32 (float64 for a float64 model)."""
    return torch.log_softmax(token_logits(model, hidden), dim=-1).gather(1, targets[:, None]).squeeze(1)


def token_logits(model: Any, hidden: Tensor) -> Tensor:
    """What the softmax is taken of, from hidden states [N, H]: [N, vocabulary], at least float32."""
    logits = model.get_output_embeddings()(hidden)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return _rescale(wide, model.config.get_text_config())


def _rescale(logits: Tensor, config: Any) -> Tensor:
    """What some models do to their logits after the output head; the names are those of trl's add_fused_lm_head."""
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if (scale := getattr(config, name, None)) is not None:
            logits = logits * scale
            break
    else:
        if (scale := getattr(config, "logits_scaling", None)) is not None:
            logits = logits * scale if config.model_type == "hyperclovax" else logits / scale
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
        logits = cap * torch.tanh(logits / cap)
    return logits


def _check_attention(model: Any, length: int) -> None:
    """Other kinds of attention than SDPA read a boolean mask as numbers; a mask of one's own replaces the window's."""
    config = model.config.get_text_config()
    if config._attn_implementation != "sdpa":
        raise ValueError(
            f"packed pairs need attn_implementation 'sdpa', the model has {config._attn_implementation!r}"
        )
    window = getattr(config, "sliding_window", None)
    if window is not None and length > window:
        raise ValueError(
            f"packed pairs: rows of {length} tokens exceed the model's sliding window of {window}"
        )


@contextmanager
def _attention(model: Any, mask: Tensor) -> Iterator[Tensor]:
    """The mask as the attention wants it that is the fastest here: SDPA, or transformers' plain products.

    torch's fused attention for CPUs is slow in bfloat16: forward and backward of 8 rows of 100 tokens took 31 ms
    with it and 11 ms with plain products (one layer of SmolLM2-135M), 61 against 53 ms at 800 tokens; in float32 the
    two are alike. Recomputing a layer in the backward pass must meet the attention of its forward pass: left alone.
    """
    if not _plain_is_faster(model, mask.device.type):
        yield mask
        return
    config = model.config.get_text_config()
    config._attn_implementation = "eager"
    try:
        # Plain attention adds its mask to the scores.
        hidden = torch.finfo(torch.bfloat16).min
        yield torch.zeros(mask.shape, dtype=torch.bfloat16).masked_fill(~mask, hidden)
    finally:
        config._attn_implementation = "sdpa"


def _plain_is_faster(model: Any, device_type: str) -> bool:
    half = torch.is_autocast_enabled("cpu") or model.dtype == torch.bfloat16
    return device_type == "cpu" and half and not model.is_activation_checkpointing


def backbone(model: Any) -> Any:
    """The transformer without its output head, adapters included."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(causal, causal.base_model_prefix)
