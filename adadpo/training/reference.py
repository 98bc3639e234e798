"""Log-probabilities of pairs under a fixed model, and their cache: one reference pass serves a whole sweep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor
from trl.trainer.dpo_trainer import DataCollatorForPreference

from adadpo.caches import Memory, cache_file, computed_once
from adadpo.data.tokens import TokenPairs
from adadpo.errors import StoppedError
from adadpo.logprobs import PairLogps, packed_pair_logps
from adadpo.method.losses import preference_loss
from adadpo.method.registry import Method
from adadpo.training.processes import ALONE, Processes

Progress = Callable[[int, int], None]  # done, total
CACHE_VERSION = 3


def pair_logps(
    model: Any,
    pairs: TokenPairs,
    *,
    pad_token_id: int,
    max_length: int,
    batch_size: int = 8,
    on_progress: Progress = lambda done, total: None,
    processes: Processes = ALONE,
    wrapped: Any = None,
) -> dict[str, Tensor]:
    """Summed log-probabilities and lengths of both responses of every pair.

    Args:
        model: policy or reference, in evaluation mode.
        pairs: token ids.
        pad_token_id: of the tokenizer.
        max_length: where responses are cut.
        batch_size: pairs at a time; they are visited in order of length, so that little is padded.
        on_progress: called with pairs done and pairs in all.
        processes: those that share the work; all of them call, and all get everything.
        wrapped: the model as it is sharded over the processes; see `trainer.accept_packed_pairs`.

    Returns:
        "chosen", "rejected": float32 [pairs], nats; "chosen_lengths", "rejected_lengths": int64 [pairs].
    """
    collate = DataCollatorForPreference(pad_token_id=pad_token_id, max_length=max_length)
    rows = pairs.rows()
    order = sorted(range(len(rows)), key=lambda i: -sum(len(ids) for ids in rows[i].values()))
    found: dict[str, list[Any]] = {
        name: [None] * len(rows) for name in ("chosen", "rejected", "chosen_lengths", "rejected_lengths")
    }
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    mine, done = [], 0
    for indices in processes.share(batches):
        batch = {name: value.to(model.device) for name, value in collate([rows[i] for i in indices]).items()}
        if wrapped is None:
            with torch.inference_mode():
                logps = packed_pair_logps(model, batch)
        else:  # what is gathered for this pass must be fit for the next step's gradients
            with torch.no_grad():
                logps = PairLogps(*wrapped(packed_pairs=batch))
        mine.append((indices, {name: values.tolist() for name, values in logps._asdict().items()}))
        done += len(indices) * processes.size
        on_progress(min(done, len(order)), len(order))
    for part in processes.gathered(mine):
        for indices, computed in part:
            for name, values in computed.items():
                for index, value in zip(indices, values, strict=True):
                    found[name][index] = value
    return {name: torch.tensor(values) for name, values in found.items()}


def cached_pair_logps(
    model: Any,
    pairs: TokenPairs,
    *,
    model_identity: str,
    memory: Memory | None = None,
    processes: Processes = ALONE,
    **options: Any,
) -> dict[str, Tensor]:
    """`pair_logps` of the reference model, from memory or the cache when the same were computed before.

    Processes that ask at the same time compute once, see `caches.computed_once`. Of those that train a run
    together the first one looks, locks and writes; all compute.

    Args:
        model: as for `pair_logps`.
        pairs: token ids.
        model_identity: see `models.ModelSource`.
        memory: what this process knows, by file of the cache; what is found is added.
        processes: those that train the run.
        options: of `pair_logps`.

    Raises:
        StoppedError: asked to stop while another process computes; in all processes of the run.
    """
    file = cache_file("reference", _key(model, pairs, model_identity, options["max_length"]))
    memory = {} if memory is None else memory
    nothing: dict[str, Tensor] = {}

    def compute() -> dict[str, Tensor]:
        return pair_logps(model, pairs, processes=processes, **options)

    if processes.rank:
        word, known = processes.from_first(("", nothing))
        if word == "stopped":
            raise StoppedError("asked to stop")
        return compute() if word == "compute" else known

    known_before = True

    def compute_together() -> dict[str, Tensor]:
        nonlocal known_before
        known_before = False
        processes.from_first(("compute", nothing))
        return compute()

    what = f"reference log-probabilities of {len(pairs)} pairs"
    try:
        found = memory[file] if file in memory else computed_once(file, what, compute_together)
    except StoppedError:
        processes.from_first(("stopped", nothing))
        raise
    if known_before:
        processes.from_first(("known", found))
    memory[file] = found
    return found


def _key(model: Any, pairs: TokenPairs, model_identity: str, max_length: int) -> dict[str, Any]:
    """What the numbers depend on: weights, their commit on the hub, and the arithmetic; ids and where they are cut.

    The ids stand for data, tokenizer and template.
    """
    device = model.device.type
    return {
        "version": CACHE_VERSION,
        "model": model_identity,
        "commit": getattr(model.config, "_commit_hash", None),  # a branch's name says little
        "pairs": pairs.digest,
        "max_length": max_length,
        "dtype": str(model.dtype),
        "autocast": str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else None,
        "attention": model.config.get_text_config()._attn_implementation,
        "device": device,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def reward_summary(
    method: Method, policy: dict[str, Tensor], reference: dict[str, Tensor] | None
) -> dict[str, float]:
    """The method's own rewards on held-out pairs; for DPO beta r (Rafailov et al. 2023, section 5).

    Args:
        method: what was trained.
        policy: from `pair_logps`.
        reference: from `pair_logps`, same pairs; None for a method without reference.

    Returns:
        `reward_margin` (mean, nats), `reward_accuracy` (share of pairs whose chosen reward is larger; a tie is half),
        `chosen_logps`, `rejected_logps` (means, nats per sequence), `log_gradient_ratio` and `clipped_share` (see
        `PreferenceLoss`), `pairs`.
    """
    found = preference_loss(
        method,
        chosen_logps=policy["chosen"].double(),
        rejected_logps=policy["rejected"].double(),
        chosen_lengths=policy["chosen_lengths"],
        rejected_lengths=policy["rejected_lengths"],
        reference_chosen_logps=None if reference is None else reference["chosen"].double(),
        reference_rejected_logps=None if reference is None else reference["rejected"].double(),
    )
    margin = found.chosen_rewards - found.rejected_rewards
    accuracy = (margin > 0).double() + 0.5 * (margin == 0).double()
    return {
        "reward_margin": margin.mean().item(),
        "reward_accuracy": accuracy.mean().item(),
        "chosen_logps": policy["chosen"].double().mean().item(),
        "rejected_logps": policy["rejected"].double().mean().item(),
        "log_gradient_ratio": found.log_gradient_ratio.mean().item(),
        "clipped_share": found.clipped.double().mean().item(),
        "pairs": len(margin),
    }
