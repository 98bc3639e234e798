"""One training run through TRL, from a run's configuration to its metrics."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor
from transformers import PrinterCallback, TrainerCallback
from trl.trainer import dpo_trainer

from adadpo.config import RunConfig, TrainSettings
from adadpo.data.tokens import TokenPairs
from adadpo.errors import DivergedError, StoppedError
from adadpo.models.policy import Base, fresh_policy, save_policy
from adadpo.quiet import quiet
from adadpo.training.arguments import trainer_arguments
from adadpo.training.checkpoints import Checkpoints, saving
from adadpo.training.processes import ALONE, Processes
from adadpo.training.reference import cached_pair_logps, pair_logps, reward_summary
from adadpo.training.resume_points import resume_point
from adadpo.training.trainer import AdaDPOTrainer, accept_packed_pairs

Progress = Callable[[int, int], None]  # done, total
HISTORY = "history.jsonl"

# TRL's name -> ours, in history.jsonl.
LOGGED = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "rewards/margins": "reward_margin",
    "rewards/accuracies": "reward_accuracy",
    "rewards/chosen": "chosen_reward",
    "rewards/rejected": "rejected_reward",
    "logps/chosen": "chosen_logps",
    "logps/rejected": "rejected_logps",
    "balance/chosen": "chosen_coefficient",
    "balance/rejected": "rejected_coefficient",
    "balance/clipped": "clipped_share",
    "balance/log_gradient_ratio": "log_gradient_ratio",
}


@dataclass(frozen=True)
class TrainingData:
    """What a run trains on and is measured on."""

    train: TokenPairs
    heldout: TokenPairs | None
    left_out: Sequence[str] = ()  # rows of the sources that are not used, and why


class RunTrainer(AdaDPOTrainer):
    """The trainer of a run: a checkpoint is written whole or not at all."""

    def __init__(self, **kwargs: Any) -> None:
        with _unhashed():
            super().__init__(**kwargs)

    def whole_weights(self) -> dict[str, Any] | None:
        """Every weight, gathered from the processes that hold shares; None where this one holds all of them."""
        if not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            return None
        # ZeRO-3 gathers them on the first process alone: the others are given None.
        return dict(self.accelerator.get_state_dict(self.model_wrapped) or {})

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with saving(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"):
            super()._save_checkpoint(*args, **kwargs)


@contextmanager
def _unhashed() -> Iterator[None]:
    """No hash of the model: TRL names its file of reference log-probabilities by it, and a run's are in its rows.

    It reads every weight as float32: 0.9 s of each run of SmolLM2-135M, and more of larger models.
    """
    plain = dpo_trainer.hash_module
    dpo_trainer.hash_module = lambda module: ""
    try:
        yield
    finally:
        dpo_trainer.hash_module = plain


def train_run(
    base: Base,
    config: RunConfig,
    data: TrainingData,
    folder: Path,
    *,
    on_progress: Progress,
    processes: Processes = ALONE,
) -> dict[str, Any]:
    """Train one policy and save it with its history.

    Writes `history.jsonl` (a line per optimiser step) and `adapter/` or `model/` under `folder`; resumes from the
    last whole checkpoint there, bit for bit on a CPU.

    Args:
        base: the untrained model.
        config: the run.
        data: token ids of its pairs.
        folder: the run's `train/` folder.
        on_progress: called with optimiser steps done and in all.
        processes: those that train this run together; each of them calls, the first one writes.

    Returns:
        Metrics: steps, final loss, and what `reference.reward_summary` says of the held-out pairs.

    Raises:
        DivergedError: a loss or gradient norm is NaN or infinite.
        ValueError: the processes cannot share a batch evenly.
        StoppedError: it was asked to stop (see `adadpo.stopping`), and a checkpoint of its last step is there.
        OSError: the disk does not take a checkpoint; those before it are whole.
    """
    settings = config.train
    scoring: dict[str, Any] = {
        "pad_token_id": base.tokenizer.pad_token_id, "max_length": settings.max_length, "processes": processes,
    }  # fmt: skip
    rows: list[dict[str, Any]] = list(data.train.rows())
    with quiet():
        arguments = trainer_arguments(config, folder, processes)
    policy = fresh_policy(base, settings, config.seed, own_weights=processes.sharded)
    trainable = sum(p.numel() for p in policy.parameters() if p.requires_grad)
    autocast = partial(
        torch.autocast, base.model.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"
    )

    def reference_logps(pairs: TokenPairs) -> dict[str, Tensor]:
        # In the arithmetic of training, so that every log-ratio starts at 0: a full fine-tune's weights are float32.
        with autocast():
            untrained = base.model if settings.lora else policy
            if not settings.caches:
                return pair_logps(untrained, pairs, **scoring)
            return cached_pair_logps(
                untrained, pairs, model_identity=base.source.identity, memory=base.logps, **scoring
            )

    heldout_reference = None
    if config.method.needs_reference:
        reference = reference_logps(data.train)
        for row, chosen, rejected in zip(
            rows, reference["chosen"].tolist(), reference["rejected"].tolist(), strict=True
        ):
            row |= {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
        heldout_reference = None if data.heldout is None else reference_logps(data.heldout)

    def evaluate(step: int) -> dict[str, float]:
        if data.heldout is None:
            return {}
        wrapped = trainer.model_wrapped if processes.sharded else None
        policy.eval()
        with autocast():
            heldout = pair_logps(policy, data.heldout, wrapped=wrapped, **scoring)
        policy.train()
        summary = reward_summary(config.method, heldout, heldout_reference)
        if not math.isfinite(summary["reward_margin"]):  # the last step's update is in no loss
            raise DivergedError(step, "held-out reward margin", summary["reward_margin"])
        return {f"heldout_{name}": value for name, value in summary.items()}

    def save(target: Path) -> None:
        weights = trainer.whole_weights()
        if processes.rank == 0:
            save_whole(policy, target, weights)

    history = History(folder, settings, evaluate, save, on_progress)
    checkpoints = Checkpoints(config.fingerprint(), settings.checkpoint_minutes, processes)
    with quiet():
        trainer = RunTrainer(
            model=policy,
            args=arguments,
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=base.tokenizer,
            callbacks=[history, checkpoints],
        )
        trainer.remove_callback(PrinterCallback)
        if "ref" in getattr(policy, "peft_config", ()):
            # TRL's copy of the fresh adapter: the reference is in the rows by now.
            policy.delete_adapter("ref")
        if processes.sharded:
            accept_packed_pairs(policy)  # for the held-out pairs, whichever way training goes
        found = processes.from_first(
            resume_point(folder / "checkpoints", checkpoints.belongs_to) if processes.rank == 0 else None
        )
        history.resumed_from = found
        trainer.train(resume_from_checkpoint=None if found is None else str(found))
    if checkpoints.stopped:
        raise StoppedError(
            f"asked to stop: after step {trainer.state.global_step} of {trainer.state.max_steps}"
        )
    # Not train()'s own mean: after a resume that leaves out the steps before it.
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    train_loss = sum(losses) / len(losses)
    if not math.isfinite(train_loss):
        raise DivergedError(trainer.state.global_step, "mean loss", train_loss)
    metrics: dict[str, Any] = {
        "steps": trainer.state.global_step,
        "train_loss": train_loss,
        "train_pairs": len(data.train),
        "truncated_pairs": data.train.truncated,
        "left_out": list(data.left_out),
        "trainable_parameters": trainable,
    }
    metrics |= evaluate(trainer.state.global_step)
    save(folder / ("adapter" if settings.lora else "model"))
    return metrics


class History(TrainerCallback):
    """Writes a line per step, reports progress, stops a diverged run, keeps snapshots."""

    def __init__(
        self,
        folder: Path,
        settings: TrainSettings,
        evaluate: Callable[[int], dict[str, float]],
        save: Callable[[Path], None],
        on_progress: Progress,
    ) -> None:
        self.folder, self.settings = folder, settings
        self.file = folder / HISTORY
        self.evaluate, self.save, self.on_progress = evaluate, save, on_progress
        self.resumed_from: Path | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The lines up to the step that training resumes from: what lies behind them is done again."""
        if state.is_world_process_zero:
            before = b"" if self.resumed_from is None else (self.resumed_from / HISTORY).read_bytes()
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_bytes(before)
        self.on_progress(state.global_step, state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
        """One step's numbers, our names; not a number ends the run."""
        if "loss" not in logs:
            return
        step = state.global_step
        values = {ours: float(logs[theirs]) for theirs, ours in LOGGED.items() if theirs in logs}
        for quantity in ("loss", "grad_norm"):
            if quantity in values and not math.isfinite(values[quantity]):
                raise DivergedError(step, quantity.replace("_", " "), values[quantity])
        # The end is measured and saved by `train_run`.
        if self._now(self.settings.eval_steps, state):
            values |= self.evaluate(step)
        if self._now(self.settings.snapshot_steps, state):
            self.save(self.folder / "snapshots" / f"step-{step}")
        if state.is_world_process_zero:
            with self.file.open("a") as stream:
                stream.write(json.dumps({"step": step, **values}) + "\n")
        self.on_progress(step, state.max_steps)

    def _now(self, every: int | None, state: Any) -> bool:
        return every is not None and state.global_step % every == 0 and state.global_step < state.max_steps

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A checkpoint has its own copy: the file may lose lines to a power cut."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero:
            with saving(folder):
                shutil.copyfile(self.file, folder / HISTORY)


def save_whole(policy: Any, folder: Path, weights: dict[str, Any] | None) -> None:
    """Save a policy, now or on its way; a folder that exists is whole."""
    part = folder.with_name(f".{folder.name}")
    for path in (part, folder):
        shutil.rmtree(path, ignore_errors=True)
    with quiet():
        save_policy(policy, part, weights)
    part.rename(folder)
