"""Responses to the built-in evaluation prompts: this project's decoding against a plain batched `generate`.

    .venv/bin/python bench/generation.py bench/results/generation.json [MODEL] [REPEATS]

The peer is what one writes first: prompts in their order, `batch_size` at a time, `model.generate`, greedy, no thought
about lengths. Both take turns in one process on the same policy (LoRA on frozen bfloat16 weights, as in the quickstart)
and are compared pairwise by the clock. In float32 the tokens must be the same, prompt by prompt; in bfloat16 another
padding rounds otherwise, so there only the share of equal responses is stated.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from machine import machine

from adadpo.config import Decoding, Lora, TrainSettings
from adadpo.data.tokens import encode
from adadpo.generation.generate import end_tokens, generate
from adadpo.generation.responses import cut_response
from adadpo.models.load import prepare_model, resolve_model
from adadpo.models.policy import Base, fresh_policy, load_base
from sweeps.config.evaluation import prompt_messages, read_prompts
from sweeps.data import builtin_instructions_path

BATCH = 32
LORA = Lora(r=16, alpha=32, target_modules=("q_proj", "v_proj"))


def main(result_file: Path, model: str, repeats: int) -> None:
    source = resolve_model(model)
    prepare_model(source)
    prompts = [prompt_messages(p) for p in read_prompts(builtin_instructions_path("evaluation"), None)]
    cases = []
    for length in (40, 128):
        base = load_base(source, TrainSettings(lora=LORA))
        policy = fresh_policy(base, TrainSettings(lora=LORA), seed=0).to(torch.bfloat16).eval()
        cases.append(compare(base, policy, prompts, length, repeats))
        print(json.dumps(cases[-1]), flush=True)
    base = load_base(source, TrainSettings(precision="float32"))
    exact = [plain(base.model, base, prompts, 24), ours(base.model, base, prompts, 24)]
    result: dict[str, Any] = {
        "what": f"greedy responses to {len(prompts)} prompts: this project over batches of {BATCH} by generate",
        "model": source.identity,
        "machine": machine("torch", "transformers", "peft"),
        "repeats": repeats,
        "cases": cases,
        "float32_responses_equal": f"{sum(a == b for a, b in zip(*exact, strict=True))} of {len(prompts)}",
    }
    result_file.write_text(json.dumps(result, indent=2) + "\n")


def compare(base: Base, policy: Any, prompts: list[Any], length: int, repeats: int) -> dict[str, Any]:
    """Both in turn."""
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    found: dict[str, list[list[int]]] = {}
    for number in range(repeats):
        for name, function in (("plain", plain), ("ours", ours))[:: -1 if number % 2 else 1]:
            begin = time.perf_counter()
            found[name] = function(policy, base, prompts, length)
            seconds[name].append(time.perf_counter() - begin)
    ratios = [p / o for p, o in zip(seconds["plain"], seconds["ours"], strict=True)]
    tokens = {name: sum(map(len, rows)) for name, rows in found.items()}
    return {
        "max_new_tokens": length,
        "seconds_median": {name: round(statistics.median(s), 2) for name, s in seconds.items()},
        "tokens_per_second": {n: round(tokens[n] / statistics.median(s), 1) for n, s in seconds.items()},
        "times_faster_median": round(statistics.median(ratios), 3),
        "times_faster": [round(r, 3) for r in ratios],
        "bfloat16_responses_equal": sum(a == b for a, b in zip(found["plain"], found["ours"], strict=True)),
    }


def plain(policy: Any, base: Base, prompts: list[Any], length: int) -> list[list[int]]:
    """Batches in the order of the prompts through transformers' generate."""
    tokenizer, ends = base.tokenizer, end_tokens(base.model, base.tokenizer)
    ids = [encode(tokenizer, prompt, generation_prompt=True) for prompt in prompts]
    found: list[list[int]] = []
    for start in range(0, len(ids), BATCH):
        batch = tokenizer.pad(
            {"input_ids": ids[start : start + BATCH]}, padding_side="left", return_tensors="pt"
        )
        with torch.inference_mode():
            sequences = policy.generate(
                **batch.to(policy.device), do_sample=False, max_new_tokens=length, eos_token_id=ends,
                pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        rows = sequences[:, batch["input_ids"].shape[1] :].tolist()
        found += [cut_response(row, ends, tokenizer).token_ids for row in rows]
    return found


def ours(policy: Any, base: Base, prompts: list[Any], length: int) -> list[list[int]]:
    decoding = Decoding(temperature=0, max_new_tokens=length, batch_size=2 * BATCH)
    return [response.token_ids for response in generate(policy, base.tokenizer, prompts, decoding)]


if __name__ == "__main__":
    rest = sys.argv[2:]
    main(Path(sys.argv[1]), rest[0] if rest else "smollm2-135m-instruct", int(rest[1]) if rest[1:] else 5)
