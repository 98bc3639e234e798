"""Log-probabilities of pairs under a fixed model, and their cache: one reference pass serves a whole sweep."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from trl.trainer.dpo_trainer import DataCollatorForPreference

from adadpo.logprobs import PairLogps, packed_pair_logps
from adadpo.losses import preference_loss
from adadpo.methods import Method
from adadpo.models import cache_folder
from adadpo.processes import ALONE, Processes
from adadpo.tokens import TokenPairs

Progress = Callable[[int, int], None]  # done, total
CACHE_VERSION = 1


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
    model: Any, pairs: TokenPairs, *, model_identity: str, processes: Processes = ALONE, **options: Any
) -> dict[str, Tensor]:
    """`pair_logps` of the reference model, from the cache when the same were computed before.

    The key covers what the numbers depend on: model, token ids, cut, dtype, autocast, device type. A file that does not
    read back whole is computed again. Of several processes the first one reads and writes.
    """
    key = {
        "version": CACHE_VERSION,
        "model": model_identity,
        "pairs": pairs.rows(),
        "max_length": options["max_length"],
        "dtype": str(model.dtype),
        "autocast": torch.is_autocast_enabled(model.device.type),
        "device": model.device.type,
        "torch": torch.__version__,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    file = cache_folder() / "reference" / f"{digest}.safetensors"
    known = processes.from_first(_read(file, len(pairs)) if processes.rank == 0 else None)
    if known is not None:
        return known
    found = pair_logps(model, pairs, processes=processes, **options)
    if processes.rank == 0:
        _save(found, file)
    return found


def _read(file: Path, pairs: int) -> dict[str, Tensor] | None:
    if file.is_file():
        try:
            found = load_file(file)
            if len(found["chosen"]) == len(found["rejected"]) == pairs:
                return dict(found)
        except (SafetensorError, KeyError, OSError):
            pass
    return None


def _save(tensors: dict[str, Tensor], file: Path) -> None:
    """Writes under a name of its own, then renames: concurrent writers are safe, readers see whole files."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, suffix=".part")
    os.close(handle)
    try:
        save_file(tensors, name)
        Path(name).chmod(0o644)  # mkstemp gives 0o600; a shared cache is read by colleagues
        os.replace(name, file)  # noqa: PTH105
    finally:
        Path(name).unlink(missing_ok=True)


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
