"""Several runs of a sweep at a time on one machine, against one at a time; one JSON file.

    .venv/bin/python bench/together.py bench/results/together.json                    # CPU: `workers: k`
    .venv/bin/python bench/together.py bench/results/together.json --device cuda      # one GPU: `runs_per_gpu: k`

The same runs are launched anew for each k, by `adadpo launch`, with a cache that already has all that they share (token
ids, reference log-probabilities). The clock runs from the first stage's beginning to the last one's end, as the stages'
manifests say: loading the model counts, the report does not. On a CPU the workers divide the cores; on a GPU the others
wait until the first run has shown how much memory one takes, which counts too. Responses must be the same for every k;
on a CPU that is so where threads do not change how sums are rounded, so their share is stated.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from machine import machine
from ruamel.yaml import YAML

QUICKSTART = Path(__file__).parent.parent / "sweeps" / "configs" / "quickstart.yaml"


def main(
    result_file: Path,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    model: Annotated[str, typer.Option(help="as in a sweep's file")] = "smollm2-135m-instruct",
    seeds: Annotated[int, typer.Option(help="of two arms at one setting")] = 2,
    steps: Annotated[int, typer.Option(help="optimiser steps of a run")] = 4,
    at_a_time: Annotated[str, typer.Option(help="values of k, with commas")] = "1,2",
) -> None:
    """Launch the same runs with each k."""
    counts = [int(word) for word in at_a_time.split(",")]
    os.environ["CUDA_VISIBLE_DEVICES"] = "" if device == "cpu" else _first_gpu()
    with tempfile.TemporaryDirectory() as folder:
        spec = _spec(model, seeds, steps)
        launch(Path(folder) / "warm", {**spec, "seeds": [0]}, {"executor": "local", "workers": 1})
        found = []
        for count in counts:
            key = "workers" if device == "cpu" else "runs_per_gpu"
            one = launch(Path(folder) / f"k{count}", spec, {"executor": "local", key: count})
            found.append({"at_a_time": count, **one})
            print(
                json.dumps({name: value for name, value in found[-1].items() if name != "answers"}),
                flush=True,
            )
    first = found[0]
    for one in found:
        one["times_faster"] = round(first["seconds"] / one["seconds"], 3)
        equal = sum(a == b for a, b in zip(first["answers"], one["answers"], strict=True))
        one["responses_as_with_the_first"] = f"{equal} of {len(first['answers'])}"
    for one in found:
        del one["answers"]
    result: dict[str, Any] = {
        "what": f"{2 * seeds} runs of {steps} steps of {model}, k at a time on one {device}, against one at a time",
        "machine": machine("torch", "transformers", "trl", "peft"),
        "device": device,
        "cases": found,
    }
    result_file.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def launch(folder: Path, spec: dict[str, Any], section: dict[str, Any]) -> dict[str, Any]:
    """A launch into a store of its own; seconds, runs per hour, peak memory of a worker, all responses."""
    folder.mkdir()
    file, store = folder / "sweep.yaml", folder / "store"
    with file.open("w") as stream:
        YAML().dump({**spec, "launch": section}, stream)
    command = [str(Path(sys.executable).with_name("adadpo")), "launch", str(file), "--allow-untestable"]
    done = subprocess.run([*command, "--store", str(store)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    manifests = [json.loads(path.read_text()) for path in store.glob("*/**/*.manifest.json")]
    stages = [one for one in manifests if "started" in one]  # a baseline's has no times
    seconds = max(one["started"] + one["seconds"] for one in stages) - min(one["started"] for one in stages)
    runs = len(list(store.glob("*/train/metrics.json")))
    answers = [
        row["output"]
        for path in sorted(store.glob("*/eval/*/outputs.json"))
        for row in json.loads(path.read_text())
    ]
    peak = {kind: max(one["memory"][kind] for one in stages) for kind in ("host", "gpu")}
    return {
        "runs": runs,
        "seconds": round(seconds, 1),
        "runs_per_hour": round(3600 * runs / seconds, 1),
        "worker_peak_mib": {kind: size // 2**20 for kind, size in peak.items()},
        "launch_said": [line for line in done.stdout.splitlines() if "at a time" in line or "alone" in line],
        "answers": answers,
    }


def _spec(model: str, seeds: int, steps: int) -> dict[str, Any]:
    spec = dict(YAML().load(QUICKSTART.read_text()))
    spec |= {"name": "together", "model": model, "seeds": list(range(seeds))}
    spec |= {"grid": {"beta": [0.1], "learning_rate": [1.0e-3]}}
    spec["train"] = {**spec["train"], "max_steps": steps}
    spec["evaluate"] = {**spec["evaluate"], "limit": 32}
    if model.startswith("tiny"):
        spec["train"].pop("lora")
    return spec


def _first_gpu() -> str:
    if not torch.cuda.is_available():
        sys.exit("no GPU here")
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]


if __name__ == "__main__":
    typer.run(main)
