"""Level, coverage and power of the verdict, scenario by scenario.

OMP_NUM_THREADS=1 .venv/bin/python -m bench.validity --simulations 4000 --out bench/results/validity.json
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.machine import machine
from bench.validity.report import markdown
from bench.validity.scenarios import SCENARIOS, Scenario
from bench.validity.simulate import simulate

CHUNK = 500


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.validity", description=__doc__)
    parser.add_argument("--simulations", type=int, default=4000, help="of every scenario")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file; a table is written beside it")
    options = parser.parse_args()
    scenarios = [each for each in SCENARIOS if options.only in each.name]
    begin = time.perf_counter()
    # Seeds by name: a scenario's figures do not hang on which others are run.
    # Round by round, so that a run that is stopped leaves as many sweeps of every scenario.
    rounds = [
        [
            (scenario, size, options.seed + 1000 * sum(map(ord, scenario.name)) + start)
            for scenario in scenarios
        ]
        for start in range(0, options.simulations, CHUNK)
        if (size := min(CHUNK, options.simulations - start))
    ]
    counts = {scenario.name: Counter[str]() for scenario in scenarios}
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with ProcessPoolExecutor(options.workers) as pool, Progress(*columns) as progress:
        task = progress.add_task("blocks of simulated sweeps", total=sum(map(len, rounds)))
        for jobs in rounds:
            done = pool.map(simulate, *zip(*jobs, strict=True))
            for (scenario, *_), found in zip(jobs, done, strict=True):
                counts[scenario.name].update(found)
                progress.advance(task)
            write(options.out, scenarios, counts, time.perf_counter() - begin)
    print(options.out.with_suffix(".md").read_text(encoding="utf-8"))


def write(path: Path, scenarios: list[Scenario], counts: dict[str, Counter[str]], seconds: float) -> None:
    """The counts so far, and their table beside them."""
    simulations = min(each["simulations"] for each in counts.values())
    result = {
        "what": "level, coverage and power of the verdict; simulated sweeps through analysis.analyse",
        "command": f"python -m bench.validity {' '.join(sys.argv[1:])}",
        "simulations": simulations,
        "standard_error_at_5_percent": round(math.sqrt(0.05 * 0.95 / simulations), 4),
        "seconds": round(seconds),
        "machine": machine("numpy", "scipy", "pydantic"),
        "scenarios": [
            {**asdict(each), "counts": dict(sorted(counts[each.name].items()))} for each in scenarios
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(markdown(result), encoding="utf-8")


if __name__ == "__main__":
    main()
