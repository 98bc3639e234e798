"""A training step of this project against TRL's stock DPOTrainer, each in its own `train()`; one JSON file.

    .venv/bin/python bench/training_step.py bench/results/training_step.json                       # CPU, SmolLM2, LoRA
    .venv/bin/python bench/training_step.py OUT.json --model llama-1b --length 2048 --pairs 4 --full       # on a GPU
    .venv/bin/python bench/training_step.py OUT.json --model smollm2-135m --length 2048 --pairs 8 --full   # on a GPU

Peers: `stock` (TRL's defaults: gradient checkpointing on, the reference computed at every step), `stock_cached` (no
gradient checkpointing, `precompute_ref_log_probs`), `ours` (the sweep's own: cached reference, a pair's prompt computed
once). Same weights, same pairs, same batches, bfloat16 autocast. The three take turns, whole short trainings at a time,
and are compared within each round; the first step of a training is left out. On a GPU weights are random: a 1B-class
Llama or SmolLM2-135M's shape with pairs of random tokens, and the result has the share of the measured bfloat16
matrix-product rate that the model's own products use (model FLOPs utilisation).
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import torch
from machine import machine
from transformers import AutoModelForCausalLM, LlamaConfig, TrainerCallback
from trl import DPOConfig, DPOTrainer

from adadpo import AdaDPOConfig, AdaDPOTrainer
from adadpo.config import Lora, TrainSettings
from adadpo.data.pairs import DataSource, load_pairs
from adadpo.data.tokens import TokenPairs, tokenize_pairs
from adadpo.models.load import load_tokenizer, prepare_model, resolve_model
from adadpo.models.policy import Base, device, fresh_policy, load_base
from adadpo.quiet import quiet
from adadpo.training.reference import pair_logps
from sweeps.data import builtin_instructions_path

EMBEDDED = "smollm2-135m-instruct"
LORA = Lora(r=16, alpha=32, target_modules=("q_proj", "v_proj"))
SHAPES = {  # random weights
    "llama-1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
                 "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 8192,
                 "tie_word_embeddings": True},
    "smollm2-135m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
                     "num_key_value_heads": 3, "vocab_size": 49152, "max_position_embeddings": 8192,
                     "tie_word_embeddings": True},
}  # fmt: skip
PEERS = ("stock", "stock_cached", "ours")


class Stock(DPOTrainer):
    """TRL's trainer; rows that are token ids already are not tokenised again."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


class Timer(TrainerCallback):
    """Seconds of every optimiser step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        _wait()
        self.start = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        _wait()
        self.seconds.append(time.perf_counter() - self.start)


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("result", type=Path)
    words.add_argument("--model", default=EMBEDDED, choices=[EMBEDDED, *SHAPES])
    words.add_argument("--length", type=int, default=128, help="tokens of prompt and response")
    words.add_argument("--pairs", type=int, default=8, help="pairs of a step")
    words.add_argument("--steps", type=int, default=4)
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--full", action="store_true", help="every weight is trained, not LoRA")
    given = words.parse_args()
    settings = TrainSettings(
        lora=None if given.full else LORA, max_length=given.length, batch_size=given.pairs
    )
    base, pairs = real(settings, given) if given.model == EMBEDDED else synthetic(settings, given)
    rows = pairs.rows()[: given.steps * given.pairs]
    with torch.autocast(base.model.device.type, torch.bfloat16):
        reference = pair_logps(
            base.model, pairs, pad_token_id=base.tokenizer.pad_token_id, max_length=given.length
        )
    seconds: dict[str, list[float]] = {peer: [] for peer in PEERS}
    memory: dict[str, int] = {}
    for number in range(given.rounds):
        for peer in PEERS[:: -1 if number % 2 else 1]:
            times, peak = train(peer, base, settings, rows, reference, given)
            seconds[peer].append(statistics.median(times[1:]))
            memory[peer] = max(memory.get(peer, 0), peak)
            print(f"round {number} {peer}: {seconds[peer][-1]:.3f} s a step", flush=True)
    tokens = {
        "stock": sum(2 * len(r["prompt_ids"]) + len(r["chosen_ids"]) + len(r["rejected_ids"]) for r in rows),
        "ours": sum(map(len, (ids for row in rows for ids in row.values()))),
    }
    result: dict[str, Any] = {
        "what": "one optimiser step, by the clock; ratios within a round",
        "model": given.model, "trained": "every weight" if given.full else "LoRA r = 16 on q_proj and v_proj",
        "batch": f"{given.pairs} pairs, at most {given.length} tokens each",
        "machine": machine("torch", "transformers", "trl", "peft"),
        "rounds": given.rounds, "steps": given.steps,
        "seconds_per_step_median": {peer: round(statistics.median(s), 4) for peer, s in seconds.items()},
        "times_faster_than_stock": ratio(seconds, "stock"),
        "times_faster_than_stock_cached": ratio(seconds, "stock_cached"),
        "tokens_per_step": {name: round(n * given.pairs / len(rows)) for name, n in tokens.items()},
    }  # fmt: skip
    if torch.cuda.is_available():
        rate = product_rate()
        flops = 6 * sum(p.numel() for p in base.model.parameters()) * tokens["ours"] * given.pairs / len(rows)
        result |= {
            "peak_memory_mib": memory,
            "bfloat16_products_tflops": round(rate / 1e12, 1),
            # of the tokens that have to be computed; a peer that computes a prompt twice gets no credit for it
            "model_flops_utilisation": {
                peer: round(flops / statistics.median(s) / rate, 3) for peer, s in seconds.items()
            },
        }
    given.result.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def real(settings: TrainSettings, given: Any) -> tuple[Base, TokenPairs]:
    """The embedded model and the built-in pairs."""
    source = resolve_model(given.model)
    prepare_model(source)
    base = load_base(source, settings)
    path = str(builtin_instructions_path("train"))
    read = load_pairs(DataSource(name="built-in", kind="file", location=path), "refuse")
    return base, tokenize_pairs(read.pairs, base.tokenizer, given.length)


def synthetic(settings: TrainSettings, given: Any) -> tuple[Base, TokenPairs]:
    """Random weights and tokens: half of the length is the prompt, responses are of 1/4 to 1/2 of it."""
    torch.manual_seed(0)
    source = resolve_model("tiny-random-llama")
    prepare_model(source)
    config = LlamaConfig(**SHAPES[given.model], bos_token_id=0, eos_token_id=1, pad_token_id=1)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
    model = model.to(device()).eval().requires_grad_(False)
    draw = torch.Generator().manual_seed(0)

    def some(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high + 1, (1,), generator=draw))
        return torch.randint(3, config.vocab_size, (length,), generator=draw).tolist()

    half, rows = given.length // 2, given.steps * given.pairs
    columns = [
        [some(*span) for _ in range(rows)] for span in ((half, half), (half // 2, half), (half // 2, half))
    ]
    return Base(source, model, load_tokenizer(source)), TokenPairs(*columns, dropped=[], truncated=0)


def train(
    peer: str, base: Base, settings: TrainSettings, rows: list[Any], reference: Any, given: Any
) -> tuple[list[float], int]:
    """Seconds of each step of one short training, and the peak of GPU memory in MiB."""
    gc.collect()
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    policy, timer = fresh_policy(base, settings, seed=0), Timer()
    rows = copy.deepcopy(rows)
    shared: dict[str, Any] = {
        "per_device_train_batch_size": given.pairs, "max_steps": given.steps, "learning_rate": 1e-6,
        "max_length": given.length, "bf16": True, "use_cpu": not on_gpu, "report_to": "none", "disable_tqdm": True,
        "logging_steps": 1, "save_strategy": "no", "log_level": "error",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, quiet():
        if peer == "ours":
            for row, chosen, rejected in zip(rows, reference["chosen"], reference["rejected"], strict=False):
                row |= {"ref_chosen_logps": float(chosen), "ref_rejected_logps": float(rejected)}
            args: Any = AdaDPOConfig(
                folder, method="dpo", forward="shared_prompt", precompute_ref_log_probs=True,
                gradient_checkpointing=False, **shared,
            )  # fmt: skip
            kind: Any = AdaDPOTrainer
        else:
            cached = {"gradient_checkpointing": False, "precompute_ref_log_probs": True}
            args = DPOConfig(folder, **shared, **(cached if peer == "stock_cached" else {}))
            kind = Stock
        trainer = kind(
            model=policy, args=args, train_dataset=datasets.Dataset.from_list(rows),
            processing_class=base.tokenizer, callbacks=[timer],
        )  # fmt: skip
        trainer.train()
    return timer.seconds, torch.cuda.max_memory_allocated() // 2**20 if on_gpu else 0


def ratio(seconds: dict[str, list[float]], peer: str) -> dict[str, Any]:
    found = [p / o for p, o in zip(seconds[peer], seconds["ours"], strict=True)]
    return {"median": round(statistics.median(found), 3), "rounds": [round(r, 3) for r in found]}


def product_rate(size: int = 8192, repeats: int = 20) -> float:
    """FLOP/s of square bfloat16 products on this GPU."""
    a = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    a @ a
    _wait()
    start = time.perf_counter()
    for _ in range(repeats):
        a @ a
    _wait()
    return 2 * size**3 * repeats / (time.perf_counter() - start)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
