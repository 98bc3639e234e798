"""What opening a launched sweep costs, whatever it was planned from: a 3 GB model folder and 20,000 pairs, or built-in.

    python bench/opening.py --out bench/results/opening.json

Two stores hold a sweep of equally many made-up finished runs. The model folder is sparse: resolving a sweep hashes it
all the same. Each command is a whole process, timed by the clock; the two stores take turns, so that a busy machine
slows both. `plan` resolves the sweep file; `status`, `why` and `gc` open the plan that the launch wrote.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from conductor import make_runs
from machine import machine

from sweeps.state.opening import resolve_sweep
from sweeps.store.layout import Store

TEXT = """\
name: {name}
model: {model}
data: {data}
arms: {{dpo: {{}}, adadpo: {{}}}}
grid: {{learning_rate: {rates}}}
seeds: 0..4
evaluate: {{limit: 16}}
"""
BUILT_IN = {"model": "tiny-random-llama", "data": '{source: "builtin:instructions", limit: 16}'}
MODEL_BYTES, PAIRS = 3 * 2**30, 20_000
COMMANDS = {
    "status": ["status"],
    "why": ["why", "arm=dpo", "seed=0", "lr=1e-6"],
    "gc": ["gc"],
    "plan": ["plan"],
}
REPEATS = {"plan": 3}


def prepare(folder: Path, name: str, inputs: dict[str, str], runs: int) -> Path:
    """A store with one launched sweep; the folder of it."""
    rates = [round(1e-6 * number, 12) for number in range(1, runs // 10 + 1)]
    file = folder / f"{name}.yaml"
    file.write_text(TEXT.format(name=name, rates=rates, **inputs))
    make_runs(resolve_sweep(str(file), Store(folder / name)))
    return folder / name


def large_inputs(folder: Path) -> dict[str, str]:
    """A model folder and a data file of the sizes that people have."""
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text('{"model_type": "llama"}')
    with (folder / "model" / "model.safetensors").open("wb") as stream:
        stream.truncate(MODEL_BYTES)
    with (folder / "pairs.jsonl").open("w") as stream:
        for number in range(PAIRS):
            words = " ".join(f"word{(number * place) % 997}" for place in range(60))
            pair = {"prompt": f"Question {number}?", "chosen": f"Yes, {words}", "rejected": f"No, {words}"}
            stream.write(json.dumps(pair) + "\n")
    return {"model": "./model", "data": "{source: pairs.jsonl}"}


def seconds(command: list[str], store: Path, sweep: str | None) -> float:
    """Of the whole process."""
    words = [command[0], *([sweep] if sweep else []), *command[1:], "--store", str(store)]
    program = "import sys; from sweeps.cli.entry import main; sys.argv = ['adadpo', *sys.argv[1:]]; main()"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-P", "-c", program, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Time every command on both stores."""
    options = argparse.ArgumentParser()
    options.add_argument("--runs", type=int, default=100)
    options.add_argument("--repeats", type=int, default=9)
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        stores = {
            "large": prepare(folder, "large", large_inputs(folder), given.runs),
            "built_in": prepare(folder, "built_in", BUILT_IN, given.runs),
        }
        found: dict[str, dict[str, object]] = {}
        for name, command in COMMANDS.items():
            times: dict[str, list[float]] = {which: [] for which in stores}
            for _ in range(REPEATS.get(name, given.repeats)):
                for which, store in stores.items():
                    times[which].append(seconds(command, store, None if name == "gc" else which))
            medians = {which: round(statistics.median(each), 3) for which, each in times.items()}
            found[name] = medians | {"ratio": round(medians["large"] / medians["built_in"], 2)}
            print(name, found[name], flush=True)
    if given.out:
        about = {"model_bytes": MODEL_BYTES, "pairs": PAIRS, "runs": given.runs, "repeats": given.repeats}
        given.out.write_text(json.dumps({"machine": machine(), **about, "seconds": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
