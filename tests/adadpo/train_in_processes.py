"""An ordinary TRL script for one or several processes: `-m tests.adadpo.train_in_processes MODEL FOLDER METHOD...`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import datasets
import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer

from adadpo import AdaDPOConfig, AdaDPOTrainer
from adadpo.quiet import quiet
from tests.adadpo.adadpo_examples import chats, rows

PAIRS_PER_STEP = 4


def train(model: str, folder: Path, method: str, processes: int) -> None:
    """Weights and the logged steps into `folder`."""
    trainer = AdaDPOTrainer(
        model=model,
        args=AdaDPOConfig(
            str(folder),
            method=method,
            per_device_train_batch_size=PAIRS_PER_STEP // processes,
            max_steps=3,
            learning_rate=0.1,
            optim="sgd",
            lr_scheduler_type="constant",
            bf16=False,
            use_cpu=True,
            ddp_backend="gloo" if processes > 1 else None,
            ddp_find_unused_parameters=False,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            logging_steps=1,
            seed=3,
            disable_tqdm=True,
            max_length=64,
            dataloader_pin_memory=False,
        ),
        train_dataset=datasets.Dataset.from_list(rows(chats(8))),
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    assert trainer.accelerator.num_processes == processes
    trainer.train()
    if trainer.is_world_process_zero():
        steps = [entry for entry in trainer.state.log_history if "loss" in entry]
        (folder / "steps.json").write_text(json.dumps(steps))
        unwrapped = trainer.accelerator.unwrap_model(trainer.model)
        save_file(
            {name: value.clone() for name, value in unwrapped.named_parameters()},
            folder / "weights.safetensors",
        )


if __name__ == "__main__":
    with quiet():
        for name in sys.argv[3:]:
            folder = Path(sys.argv[2]) / name
            folder.mkdir(parents=True, exist_ok=True)
            train(sys.argv[1], folder, name, int(os.environ.get("WORLD_SIZE", "1")))
    if torch.distributed.is_initialized():
        # Else the first to leave closes the other's connections.
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
