"""The quickstart against a loop of ordinary TRL scripts that do the same work; one JSON file.

    .venv/bin/python bench/sweep_speed.py bench/results/sweep_speed.json [SCRIPTS]

Both start from the embedded model on the disk, with no other cache. The sweep is the whole quickstart, by `adadpo
launch`, its report included. The loops call `trl_script.py` once for each run, `ordinary` with TRL's defaults and
`tuned` as a careful user would: only SCRIPTS of the runs of each are timed, and the time of all is the first one's (it
answers for the untrained model too) plus the mean of the others for every other run. All are whole processes by the
clock, one after the other; peak memory is that of the largest process.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import machine

from adadpo.files import cache_folder
from adadpo.models.load import prepare_model, resolve_model

HERE = Path(__file__).parent
QUICKSTART = HERE.parent / "sweeps" / "configs" / "quickstart.yaml"


def main(result_file: Path, scripts: int) -> None:
    source = resolve_model("smollm2-135m-instruct")
    model = prepare_model(source)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        found["sweep"], runs = sweep(Path(folder))
        print("sweep", found["sweep"], flush=True)
        for name in ("tuned", "ordinary"):
            found[name] = loop(Path(folder) / name, str(model), scripts, runs, tuned=name == "tuned")
            print(name, found[name], flush=True)
    result: dict[str, Any] = {
        "what": f"the quickstart, start to report, against a script a run, {scripts} of them timed",
        "machine": machine("torch", "transformers", "trl", "peft"),
        "runs": runs,
        **found,
        "times_faster_than_ordinary": round(found["ordinary"]["seconds"] / found["sweep"]["seconds"], 2),
        "times_faster_than_tuned": round(found["tuned"]["seconds"] / found["sweep"]["seconds"], 2),
    }
    result_file.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def sweep(folder: Path) -> tuple[dict[str, Any], int]:
    """`adadpo launch` of the quickstart with a cache that holds the model alone; also its number of runs."""
    cache, store = folder / "cache", folder / "store"
    cache.mkdir()
    (cache / "models").symlink_to(cache_folder() / "models", target_is_directory=True)
    command = [
        str(Path(sys.executable).with_name("adadpo")),
        "launch",
        str(QUICKSTART),
        "--store",
        str(store),
    ]
    found = timed(command, {"ADADPO_CACHE": str(cache)})
    results = json.loads((store / "sweeps" / "quickstart" / "results.json").read_text())
    return found, results["counts"]["done"]


def loop(folder: Path, model: str, scripts: int, runs: int, *, tuned: bool) -> dict[str, Any]:
    """A script for every run: two betas stand for the two arms, which cost the same."""
    total: dict[str, Any] = {"seconds": None, "peak_memory_mib": 0, "seconds_each": []}
    for number in range(scripts):
        seed, beta = number // 2, (0.1, 0.2)[number % 2]
        out = folder / str(number)
        out.mkdir(parents=True)
        job = {
            "model": model, "out": str(out), "seed": seed, "beta": beta, "learning_rate": 1e-3, "tuned": tuned,
            "batch_size": 8, "max_steps": 8, "max_length": 128, "heldout": 32, "max_new_tokens": 40,
            "generate_batch": 32, "kl_prompts": 16, "baseline": number == 0,
        }  # fmt: skip
        one = timed([sys.executable, str(HERE / "trl_script.py"), json.dumps(job)], {})
        total["peak_memory_mib"] = max(total["peak_memory_mib"], one["peak_memory_mib"])
        total["seconds_each"].append(one["seconds"])
        total["stages_of_the_last"] = json.loads((out / "result.json").read_text())["times"]
    first, *others = total["seconds_each"]
    total["seconds"] = round(first + (runs - 1) * statistics.fmean(others), 1)
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
    main(Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else 4)
