"""A quickstart-sized sweep against a loop of ordinary TRL scripts that do the same work; one JSON file.

    .venv/bin/python bench/sweep_speed.py bench/results/sweep_speed.json [SEEDS]

Both start from the embedded model on the disk, with no other cache. The sweep is the quickstart's with one setting and
SEEDS seeds (2 x SEEDS runs), by `adadpo launch`, its report included; the loops call `trl_script.py` once for each run,
`ordinary` with TRL's defaults and `tuned` as a careful user would. All are whole processes by the clock, one after the
other; peak memory is that of the largest process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import machine
from ruamel.yaml import YAML

from adadpo.models import cache_folder, prepare_model, resolve_model

HERE = Path(__file__).parent
QUICKSTART = HERE.parent / "sweeps" / "configs" / "quickstart.yaml"


def main(result_file: Path, seeds: int) -> None:
    source = resolve_model("smollm2-135m-instruct")
    model = prepare_model(source)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        found["sweep"] = sweep(Path(folder), seeds)
        print("sweep", found["sweep"], flush=True)
        for name in ("tuned", "ordinary"):
            found[name] = loop(Path(folder) / name, str(model), seeds, tuned=name == "tuned")
            print(name, found[name], flush=True)
    result: dict[str, Any] = {
        "what": f"{2 * seeds} runs of the quickstart's size, start to report, against a script a run",
        "machine": machine("torch", "transformers", "trl", "peft"),
        "runs": 2 * seeds,
        **found,
        "times_faster_than_ordinary": round(found["ordinary"]["seconds"] / found["sweep"]["seconds"], 2),
        "times_faster_than_tuned": round(found["tuned"]["seconds"] / found["sweep"]["seconds"], 2),
    }
    result_file.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def sweep(folder: Path, seeds: int) -> dict[str, Any]:
    """`adadpo launch` of one setting with a cache that holds the model alone."""
    yaml = YAML()
    spec = yaml.load(QUICKSTART.read_text())
    spec |= {"name": "speed", "grid": {"beta": [0.1], "learning_rate": [1.0e-3]}, "seeds": list(range(seeds))}
    file = folder / "speed.yaml"
    with file.open("w") as stream:
        yaml.dump(spec, stream)
    cache = folder / "cache"
    cache.mkdir()
    (cache / "models").symlink_to(cache_folder() / "models", target_is_directory=True)
    command = [str(Path(sys.executable).with_name("adadpo")), "launch", str(file), "--allow-untestable"]
    return timed([*command, "--store", str(folder / "store")], {"ADADPO_CACHE": str(cache)})


def loop(folder: Path, model: str, seeds: int, *, tuned: bool) -> dict[str, Any]:
    """A script for every run: two betas stand for the two arms, which cost the same."""
    total: dict[str, Any] = {"seconds": 0.0, "peak_memory_mib": 0, "seconds_each": []}
    for number, (seed, beta) in enumerate((seed, beta) for seed in range(seeds) for beta in (0.1, 0.2)):
        out = folder / str(number)
        out.mkdir(parents=True)
        job = {
            "model": model, "out": str(out), "seed": seed, "beta": beta, "learning_rate": 1e-3, "tuned": tuned,
            "batch_size": 8, "max_steps": 8, "max_length": 128, "heldout": 32, "max_new_tokens": 40,
            "generate_batch": 32, "kl_prompts": 16, "baseline": number == 0,
        }  # fmt: skip
        one = timed([sys.executable, str(HERE / "trl_script.py"), json.dumps(job)], {})
        total["seconds"] = round(total["seconds"] + one["seconds"], 1)
        total["peak_memory_mib"] = max(total["peak_memory_mib"], one["peak_memory_mib"])
        total["seconds_each"].append(one["seconds"])
        total["stages"] = json.loads((out / "result.json").read_text())["times"]
    return total


def timed(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """Seconds by the clock of a process, and the peak resident memory of it or its largest child."""
    with tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=errors, text=True
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = round(time.perf_counter() - start, 1)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            sys.exit(f"{' '.join(command)[:200]} failed: {errors.read()[-2000:]}")
    return {"seconds": seconds, "peak_memory_mib": usage.ru_maxrss // 1024}


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else 2)
