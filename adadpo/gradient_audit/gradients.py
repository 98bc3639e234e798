"""What the gradient audit needs to know of a policy, per response: numbers from which every gradient follows.

Every loss here reaches a policy through s, a response's summed log-probability, so that each gradient is dL/ds times
something that no loss changes: 1 / pi for a token's probability, onehot - softmax for its logits, grad s for the
parameters. These are measured once for a policy; `audit` scales them for every loss and stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor
from trl.trainer.dpo_trainer import DataCollatorForPreference

from adadpo.config import TrainSettings
from adadpo.data.tokens import TokenPairs
from adadpo.errors import ModelError
from adadpo.logprobs import backbone, pack_pairs, score_tokens, token_logits
from adadpo.models.policy import Base, device, fresh_policy, twin
from adadpo.quiet import quiet

Progress = Callable[[int, int], None]  # done, total
# Elements of a block of logits: 64 MiB in float32, whatever the vocabulary and the batch.
BLOCK = 2**24
# Evaluation passes that parameter gradients may take by default. With the forward pass that is 2.2 by tokens; measured,
# 2.2 (all weights of SmolLM2-135M) and 2.8 (its LoRA adapters): single responses use a machine less well than batches.
GRADIENT_PASSES = 1.2
MOST_GRADIENT_PAIRS = 64
# The cost of a response's gradient on top of its tokens, in tokens of a forward pass, with every weight trained: the
# gradient is as large as the model, and is written and read whole. Measured on a CPU (SmolLM2-135M: 200), rounded up.
WEIGHTS_IN_TOKENS = 256


class Responses(NamedTuple):
    """One side of a policy's pairs; float64 [pairs] but for the lengths."""

    logps: Tensor  # s, nats
    lengths: Tensor  # int64: scored tokens
    log_mean_inverse: Tensor  # log of the mean over tokens of 1 / pi(y_t)
    log_logits_norm: Tensor  # log ||ds/dlogits||, L2 over the response's tokens and the vocabulary


class Measurement(NamedTuple):
    """What one forward pass over the pairs tells."""

    chosen: Responses
    rejected: Responses


class ParameterGradients(NamedTuple):
    """Of grad s in the trainable parameters; float64 [measured pairs]; NaN where a gradient is zero or s is empty."""

    log_norm_ratio: Tensor  # log ||grad s_w|| - log ||grad s_l||
    cosine: Tensor  # of the angle between grad s_w and grad s_l


class Work(NamedTuple):
    """Tokens that passed through the model, padding not counted."""

    evaluation: int  # one evaluation pass: `reference.pair_logps`
    forward: int
    backward: int
    weights: int = 0  # what gradients cost by the number of trained weights, as tokens of a forward pass

    @property
    def passes(self) -> float:
        """In evaluation passes; a backward pass costs two forward passes (Kaplan et al. 2020, section 2.1)."""
        return (self.forward + 2 * self.backward + self.weights) / self.evaluation


def measure_pairs(
    model: Any,
    pairs: TokenPairs,
    *,
    pad_token_id: int,
    max_length: int,
    batch_size: int = 8,
    on_progress: Progress = lambda done, total: None,
) -> Measurement:
    """One forward pass over the pairs, as `reference.pair_logps` makes it; arguments are the same.

    Logits of a pair's last prompt position serve both responses; each response counts with its own gradient there.
    """
    collate = DataCollatorForPreference(pad_token_id=pad_token_id, max_length=max_length)
    rows = pairs.rows()
    order = sorted(range(len(rows)), key=lambda i: -sum(len(ids) for ids in rows[i].values()))
    found = torch.empty(2, len(Responses._fields), len(rows), dtype=torch.float64)
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        batch = {name: value.to(model.device) for name, value in collate([rows[i] for i in indices]).items()}
        with torch.inference_mode():
            numbers = _response_numbers(model, batch)
        found[:, :, indices] = numbers.cpu()
        on_progress(min(start + batch_size, len(order)), len(order))
    chosen, rejected = (
        Responses(side[0], side[1].long(), *side[2:].unbind()) for side in (found[0], found[1])
    )
    return Measurement(chosen, rejected)


def _response_numbers(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """float64 [side, number, pairs]: the fields of `Responses`."""
    packed = pack_pairs(batch)
    hidden = backbone(model)(
        input_ids=packed.input_ids,
        position_ids=packed.position_ids,
        attention_mask=packed.attention_mask,
        use_cache=False,
    ).last_hidden_state
    logps, squares = token_numbers(model, hidden[packed.row, packed.predictor], packed.target)
    responses = 2 * packed.input_ids.shape[0]

    def total(values: Tensor) -> Tensor:
        return values.new_zeros(responses).index_add(0, packed.response, values)

    lengths = total(torch.ones_like(logps))
    largest = logps.new_full((responses,), -torch.inf).scatter_reduce(0, packed.response, -logps, "amax")
    # An empty response has log(0) - log(0): NaN, not defined.
    mean_inverse = largest + total(torch.exp(-logps - largest[packed.response])).log() - lengths.log()
    numbers = torch.stack([total(logps), lengths, mean_inverse, total(squares).log() / 2])
    return numbers.unflatten(1, (2, -1)).transpose(0, 1)


def token_numbers(model: Any, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log p(target), and ||onehot - softmax||^2: the squared norm of its gradient in the logits.

    Logits are those the softmax is taken of, after scaling and capping. The norm is (1 - p)^2 (1 + sum q^2) with q the
    softmax of the other tokens: 1 - 2 p + sum p^2 would be noise where p is near 1.

    Args:
        model: a causal language model of transformers, or its PEFT wrapper.
        hidden: Float[N, H].
        targets: Int[N].

    Returns:
        float64 [N] each.
    """
    logps, squares = [], []
    block = max(1, BLOCK // model.config.get_text_config().vocab_size)
    for some, target in zip(hidden.split(block), targets[:, None].split(block), strict=True):
        logits = token_logits(model, some)
        own = logits.gather(1, target).squeeze(1).double()
        others = logits.scatter(1, target, -torch.inf)
        log_others = torch.logsumexp(others, dim=1).double()
        log_all = torch.logaddexp(own, log_others)
        concentration = torch.logsumexp(2 * others, dim=1).double() - 2 * log_others
        logps.append(own - log_all)
        squares.append(torch.exp(2 * (log_others - log_all)) * (1 + torch.exp(concentration)))
    return torch.cat(logps), torch.cat(squares)


def measure_gradients(
    model: Any,
    pairs: TokenPairs,
    indices: Sequence[int],
    *,
    pad_token_id: int,
    max_length: int,
    on_progress: Progress = lambda done, total: None,
) -> ParameterGradients:
    """Gradients of both responses' s in the parameters that require one: a forward and a backward pass each.

    Args:
        model: the policy, in evaluation mode (no dropout), some of its parameters trainable.
        pairs: token ids.
        indices: the pairs to measure.
        pad_token_id: of the tokenizer.
        max_length: where responses are cut.
        on_progress: called with pairs done and pairs in all.

    Raises:
        ValueError: no parameter is trainable.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("the model has no trainable parameter")
    collate = DataCollatorForPreference(pad_token_id=pad_token_id, max_length=max_length)
    rows = pairs.rows()
    found = torch.full((2, len(indices)), torch.nan, dtype=torch.float64)
    for done, index in enumerate(indices):
        batch = {name: value.to(model.device) for name, value in collate([rows[index]]).items()}
        chosen = _gradient(model, batch, 0, parameters)
        rejected = _gradient(model, batch, 1, parameters)
        norms = [inner(side, side).sqrt() for side in (chosen, rejected)]
        if all(norm > 0 for norm in norms):
            found[0, done] = norms[0].log() - norms[1].log()
            found[1, done] = inner(chosen, rejected) / (norms[0] * norms[1])
        on_progress(done + 1, len(indices))
    return ParameterGradients(*found.unbind())


def _gradient(model: Any, batch: dict[str, Tensor], row: int, parameters: list[Tensor]) -> list[Tensor]:
    """Grad s of one row; empty when nothing is scored."""
    end = int(batch["attention_mask"][row].sum())
    ids = batch["input_ids"][row, :end]
    # Nothing predicts a row's first token: it is not scored, as in `pack_pairs`.
    start = max(int(batch["completion_mask"][row].argmax()), 1)
    if not batch["completion_mask"][row, start:].any():
        return []
    with torch.enable_grad():
        hidden = backbone(model)(input_ids=ids[None], use_cache=False).last_hidden_state[0]
        logp = score_tokens(model, hidden[start - 1 : end - 1], ids[start:]).sum()
        # allow_unused: experts that no token chose
        gradients = torch.autograd.grad(logp, parameters, allow_unused=True, materialize_grads=True)
    return list(gradients)


def inner(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """The inner product of two gradients, blocks in their own precision and their sum in float64: float64 []."""
    total = torch.zeros((), dtype=torch.float64)
    for left, right in zip(a, b, strict=False):
        # Not all in float64: the copy of an embedding's gradient would be the largest tensor there is.
        for x, y in zip(left.flatten().split(2**16), right.flatten().split(2**16), strict=True):
            total += torch.dot(x, y).cpu()
    return total


def gradient_pairs(
    pairs: TokenPairs,
    max_length: int,
    rng: np.random.Generator,
    *,
    trained_share: float = 1.0,
    passes: float = GRADIENT_PASSES,
) -> list[int]:
    """The pairs of which parameter gradients are measured: a random sample that costs at most so many passes.

    The sample ends before the pair that would cost too much; going on with shorter ones would prefer short pairs.

    Args:
        pairs: token ids.
        max_length: where responses are cut.
        rng: draws the order.
        trained_share: trainable parameters over all parameters.
        passes: in evaluation passes over all pairs, counted as in `Work`.

    Returns:
        At most `MOST_GRADIENT_PAIRS` indices, in order of the draw; they may be none when there are few pairs.
    """
    chosen: list[int] = []
    for index in rng.permutation(len(pairs))[:MOST_GRADIENT_PAIRS].tolist():
        if work_of(pairs, max_length, [*chosen, index], trained_share).passes - 1 > passes:
            break
        chosen.append(index)
    return chosen


def work_of(pairs: TokenPairs, max_length: int, indices: Sequence[int], trained_share: float = 1.0) -> Work:
    """What `measure_pairs`, and `measure_gradients` of some pairs, cost."""
    packed, rows = 0, []
    for prompt, chosen, rejected in zip(pairs.prompt_ids, pairs.chosen_ids, pairs.rejected_ids, strict=True):
        room = max_length - len(prompt)
        responses = min(len(chosen), room) + min(len(rejected), room)
        packed += len(prompt) + responses
        rows.append(2 * len(prompt) + responses)
    gradients = sum(rows[index] for index in indices)
    weights = round(2 * len(indices) * WEIGHTS_IN_TOKENS * trained_share)
    return Work(packed, packed + gradients, gradients, weights)


def trained_share(model: Any) -> float:
    """Trainable parameters over all parameters."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, trained in sizes if trained) / sum(size for size, _ in sizes)


def policy_in_training(base: Base, train: TrainSettings, seed: int, folder: Path | None) -> Any:
    """A policy in the arithmetic of its training: adapters, or all weights, in float32 and trainable.

    Args:
        base: the untrained model.
        train: the run's settings.
        seed: of the adapters' initial weights.
        folder: where the policy was saved; None: before training.

    Raises:
        ModelError: the folder does not hold what the run's settings say.
    """
    if folder is None:
        return fresh_policy(base, train, seed).eval()
    try:
        with quiet():
            if train.lora is None:
                from transformers import AutoModelForCausalLM

                policy = AutoModelForCausalLM.from_pretrained(
                    folder, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
                ).requires_grad_(True)
            else:
                from peft import PeftModel

                policy = PeftModel.from_pretrained(twin(base), str(folder), is_trainable=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"policy in {folder.parent.name}/{folder.name} could not be loaded: {str(error).splitlines()[0]}"
        ) from error
    return policy.to(device()).eval()
