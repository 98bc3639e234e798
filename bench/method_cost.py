"""What AdaDPO costs more than DPO: time of a training step, and peak memory; one JSON file.

    .venv/bin/python bench/method_cost.py bench/results/method_cost.json [MODEL] [PAIRS_OF_STEPS]

Steps of both methods (forward, loss, backward, optimiser; LoRA, the built-in pairs, cached reference) are taken in
turn, the first of each two in random order, on the same batch in the same process, and compared pairwise: what slows
the machine down slows both. On a CPU the time is that of the process (all threads), not of the clock. Peak memory is
that of a process of its own for each method.
"""

from __future__ import annotations

import json
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import machine

from adadpo.config import Lora, TrainSettings
from adadpo.data.pairs import DataSource, load_pairs
from adadpo.data.tokens import tokenize_pairs
from adadpo.logprobs import packed_pair_logps
from adadpo.method.losses import preference_loss
from adadpo.models.load import prepare_model, resolve_model
from adadpo.models.policy import Base, fresh_policy, load_base
from adadpo.training.reference import pair_logps
from sweeps.data import builtin_instructions_path

BATCH = 8
SETTINGS = TrainSettings(
    batch_size=BATCH, max_length=128, lora=Lora(r=16, alpha=32, target_modules=("q_proj", "v_proj"))
)


def main(result_file: Path, model: str, steps: int) -> None:
    source = resolve_model(model)
    prepare_model(source)
    base = load_base(source, SETTINGS)
    step = {name: make_step(base, name) for name in ("dpo", "adadpo")}
    order = random.Random(0)
    on_gpu = base.model.device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in step}
    for number in range(steps + 2):
        for name in order.sample(list(step), 2):
            begin = clock()
            step[name](number)
            if on_gpu:
                torch.cuda.synchronize()
            if number >= 2:  # the first ones fill caches
                seconds[name].append(clock() - begin)
    ratios = [a / d for a, d in zip(seconds["adadpo"], seconds["dpo"], strict=True)]
    middle = sorted(ratios)[len(ratios) // 4 : -(len(ratios) // 4)]
    result: dict[str, Any] = {
        "what": "one training step of AdaDPO over one of DPO",
        "model": source.identity,
        "batch": f"{BATCH} pairs of the built-in data, LoRA r = 16, bfloat16 autocast",
        "machine": machine("torch", "transformers", "trl", "peft"),
        "pairs_of_steps": steps,
        "time": "wall clock" if on_gpu else "CPU time of the process",
        "seconds_per_step_median": {name: round(statistics.median(s), 4) for name, s in seconds.items()},
        "time_ratio_median": round(statistics.median(ratios), 4),
        "time_ratio_quartiles": [round(middle[0], 4), round(middle[-1], 4)],
        "loss_seconds_median": {name: loss_alone(name) for name in step},
        "peak_memory_mib": {name: memory(name, model) for name in step},
    }
    result_file.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def make_step(base: Base, name: str) -> Callable[[int], None]:
    """One optimiser step on the batch of a number."""
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    path = str(builtin_instructions_path("train"))
    pairs = tokenize_pairs(
        load_pairs(DataSource(name="built-in", kind="file", location=path, limit=4 * BATCH), "refuse").pairs,
        base.tokenizer,
        SETTINGS.max_length,
    )
    options = {"pad_token_id": base.tokenizer.pad_token_id, "max_length": SETTINGS.max_length}
    reference = pair_logps(base.model, pairs, **options)
    policy = fresh_policy(base, SETTINGS, seed=0)
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=1e-3)
    collate, rows = DataCollatorForPreference(**options), pairs.rows()

    def step(number: int) -> None:
        indices = [(number * BATCH + k) % len(rows) for k in range(BATCH)]
        batch = {k: v.to(policy.device) for k, v in collate([rows[i] for i in indices]).items()}
        with torch.autocast(policy.device.type, torch.bfloat16):
            logps = packed_pair_logps(policy, batch)
        loss = preference_loss(
            name,
            chosen_logps=logps.chosen,
            rejected_logps=logps.rejected,
            chosen_lengths=logps.chosen_lengths,
            rejected_lengths=logps.rejected_lengths,
            reference_chosen_logps=reference["chosen"][indices].to(policy.device),
            reference_rejected_logps=reference["rejected"][indices].to(policy.device),
        ).loss.mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def loss_alone(name: str) -> float:
    """Seconds for the loss and its gradient of one batch, without the model."""
    generator = torch.Generator().manual_seed(0)
    logps = [-20 - 10 * torch.rand(BATCH, generator=generator) for _ in range(4)]
    lengths = torch.randint(5, 40, (BATCH,), generator=generator)
    times = []
    for _ in range(300):
        chosen, rejected = (each.clone().requires_grad_() for each in logps[:2])
        begin = time.perf_counter()
        preference_loss(
            name,
            chosen_logps=chosen,
            rejected_logps=rejected,
            chosen_lengths=lengths,
            rejected_lengths=lengths,
            reference_chosen_logps=logps[2],
            reference_rejected_logps=logps[3],
        ).loss.mean().backward()
        times.append(time.perf_counter() - begin)
    return round(statistics.median(times), 6)


def memory(name: str, model: str) -> int:
    """Peak resident memory, MiB, of a process that takes three steps."""
    words = [sys.executable, __file__, "--memory", name, model]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[-1])


def measure_memory(name: str, model: str) -> None:
    base = load_base(resolve_model(model), SETTINGS)
    step = make_step(base, name)
    for number in range(3):
        step(number)
    on_gpu = base.model.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() // 2**20 if on_gpu else 0
    print(peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


if __name__ == "__main__":
    if sys.argv[1] == "--memory":
        measure_memory(*sys.argv[2:4])
    else:
        rest = sys.argv[2:]
        main(
            Path(sys.argv[1]),
            rest[0] if rest else "smollm2-135m-instruct",
            int(rest[1]) if rest[1:] else 30,
        )
