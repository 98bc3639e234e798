"""A small training run, what it leaves, and how two of them are compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from adadpo.config import Lora, RunConfig, TrainSettings
from adadpo.data.tokens import tokenize_pairs
from adadpo.method.registry import make_method
from adadpo.models.policy import Base
from adadpo.training.train import TrainingData, train_run
from tests.adadpo.adadpo_examples import chats

SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-3, "batch_size": 4, "micro_batch_size": 2, "max_length": 64, "precision": "float32",
    "epochs": 2, "scheduler": "linear",
}  # fmt: skip
STEPS = 6  # 11 pairs, 3 steps an epoch


class Stop(Exception):
    """What kills a run in these tests."""


def training_data(base: Base) -> TrainingData:
    """11 pairs to train on and 5 held out."""
    pairs = chats(16)
    return TrainingData(
        tokenize_pairs(pairs[:11], base.tokenizer, 64), tokenize_pairs(pairs[11:], base.tokenizer, 64)
    )


def config_of(method: str = "adadpo", seed: int = 1, lora: bool = False, **train: Any) -> RunConfig:
    settings = TrainSettings(**{**SETTINGS, "lora": Lora(r=2, alpha=4) if lora else None, **train})
    return RunConfig(model="m", data="d", heldout="h", method=make_method(method), train=settings, seed=seed)


def run(
    base: Base, config: RunConfig, data: TrainingData, folder: Path, stop_at: int | None = None
) -> dict[str, Any]:
    def progress(done: int, total: int) -> None:
        assert total == (config.train.max_steps or STEPS)
        if done == stop_at:
            raise Stop

    return train_run(base, config, data, folder, on_progress=progress)


def history(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def weights(folder: Path, lora: bool = False) -> dict[str, torch.Tensor]:
    return load_file(folder / ("adapter/adapter_model.safetensors" if lora else "model/model.safetensors"))


def identical(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
