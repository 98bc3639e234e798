"""Chaos, the long version: rounds of a sweep of 24 runs on a real Slurm until `--kills` processes were killed.

python bench/chaos.py [--kills 100] [--seed 1] [--pause 5]      # writes bench/results/chaos.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests" / part) for part in ("cluster", "sweeps")]

from chaos import Chaos, calm, damage  # noqa: E402
from slurm_cluster import running  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=5.0)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["HF_HUB_OFFLINE"] = "1"
    rounds: list[dict[str, object]] = []
    kills: Counter[str] = Counter()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        expected = calm(folder / "calm")
        while kills.total() < options.kills:
            number = len(rounds) + 1
            with running(nodes=4) as cluster:
                os.environ["SLURM_CONF"] = str(cluster.conf)
                rng = random.Random(f"{options.seed} {number}")
                chaos = Chaos(cluster, folder / f"round-{number}", rng, options.pause)
                chaos.run(options.kills - kills.total(), seconds=3600)
                harm = damage(chaos, expected)
            kills += chaos.kills
            rounds.append({"kills": dict(chaos.kills), "launchers": chaos.started, **harm})
            print(f"round {number}: {rounds[-1]}", flush=True)
    summary = {
        "runs": 24 * len(rounds),
        "seed": options.seed,
        "kills": {**kills, "all": kills.total()},
        **{
            key: sum(int(str(each[key])) for each in rounds)
            for key in ("lost", "duplicated", "corrupt", "table differs")
        },
        "seconds": round(time.monotonic() - began),
        "machine": f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, {platform.system()}",
        "rounds": rounds,
    }
    (HERE / "results" / "chaos.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps(summary, indent=1))
    sys.exit(any(summary[key] for key in ("lost", "duplicated", "corrupt", "table differs")))


if __name__ == "__main__":
    main()
