"""A sweep on a real cluster while workers, launchers and nodes are killed at random, against the same sweep in peace.

Every kill is SIGKILL. Kinds: `worker` (a training process), `launcher` (with its sbatch; two race at a time),
`slurmd` (the daemon alone, started again later), `node` (a power cut: everything on it).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reports.files import load_results
from sweeps.store.layout import STAGES
from tests.cluster.slurm_cluster import Cluster
from tests.sweeps.sweep_examples import SMALL, Child, adadpo, contents, opened, start, write_sweep

# 2 arms x 3 settings x 4 seeds, 4 runs a job, two at a time.
SWEEP = (
    SMALL.replace("name: small", "name: chaos")
    .replace("[0.05, 0.1]", "[0.05, 0.1, 0.2]")
    .replace("[0, 1]", "0..3")
    .replace("warmup: 0", "checkpoint_steps: 1, epochs: 4, warmup: 0")
)
LAUNCH = {
    "executor": "slurm", "runs_per_job": 4, "runs_per_gpu": 2, "mem_gb": 4, "cpus_per_task": 4,
    "array_parallelism": 3, "timeout_min": 60,
    "retries": {"node": 10000},  # whoever kills on purpose does not want to hear that the machine is in trouble
}  # fmt: skip
KINDS = {"worker": 5, "launcher": 3, "slurmd": 1, "node": 1}  # weights


@dataclass
class Chaos:
    """Kills for one sweep, drawn from `rng`."""

    cluster: Cluster
    folder: Path
    rng: random.Random
    pause: float  # seconds between kills, on average
    kills: Counter[str] = field(default_factory=Counter)
    launchers: list[Child] = field(default_factory=list)
    started: int = 0
    back_at: dict[str, float] = field(default_factory=dict)  # node -> when its slurmd is started again

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def file(self) -> Path:
        return self.folder / "chaos.yaml"

    def run(self, kills: int, seconds: float) -> None:
        """Kill until it was often enough or nothing is left to do, then leave the sweep alone until it has ended.

        Raises:
            TimeoutError: it does not end.
        """
        text = SWEEP.replace("launch: {executor: inline}", f"launch: {json.dumps(LAUNCH)}")
        write_sweep(self.file, text)
        deadline = time.monotonic() + seconds
        self.race()
        while self.kills.total() < kills and not self.over():
            time.sleep(self.rng.expovariate(1 / self.pause))
            self.raise_the_dead()
            kind = self.rng.choices(list(KINDS), list(KINDS.values()))[0]
            self.kills[kind] += getattr(self, f"kill_{kind}")()
            if not any(child.process.is_alive() for child in self.launchers):
                self.race()
        for child in self.launchers:
            child.wait()
        while not self.over() or self.cluster.queue():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.counts()} {self.cluster.queue()} {self.cluster.states()}")
            self.raise_the_dead(all_of_them=True)
            if not self.over():
                adadpo("launch", self.file, "--store", self.store)
            time.sleep(2)

    def race(self) -> None:
        """Two launchers at once."""
        for _ in range(2):
            self.started += 1
            log = self.folder / f"launcher-{self.started}.log"
            self.launchers.append(start(log, "launch", self.file, "--store", self.store))
        self.launchers = self.launchers[-2:]

    def counts(self) -> dict[str, int]:
        return dict(opened(self.file, self.store).counts())

    def over(self) -> bool:
        return self.counts() == {"done": 24}

    def kill_worker(self) -> bool:
        """Any process that trains, generates, judges or writes the report."""
        workers = [pid for pid in self.cluster.workers() if b"sweeps.dispatch.worker" in _command(pid)]
        pythons = [pid for pid in workers if b"python" in _command(pid).split(b"\0")[0]]
        return bool(pythons) and _kill(self.rng.choice(pythons))

    def kill_launcher(self) -> bool:
        """Some way into its work, with whatever it started."""
        if not any(child.process.is_alive() for child in self.launchers):
            self.race()
        time.sleep(self.rng.uniform(0, 0.15))
        alive = [child for child in self.launchers if child.process.is_alive()]
        return bool(alive) and _kill(self.rng.choice(alive).process.pid or 0, group=True)

    def kill_slurmd(self) -> bool:
        node = self._alive_node()
        if node is not None:
            self.cluster.kill_slurmd(node)
            self.back_at[node] = time.monotonic() + self.rng.uniform(0, 2 * self.pause)
        return node is not None

    def kill_node(self) -> bool:
        node = self._alive_node()
        if node is not None:
            self.cluster.kill_node(node)
            self.back_at[node] = time.monotonic() + self.rng.uniform(0, 2 * self.pause)
        return node is not None

    def raise_the_dead(self, *, all_of_them: bool = False) -> None:
        """Start the slurmds whose time has come."""
        for node, when in list(self.back_at.items()):
            if all_of_them or when < time.monotonic():
                self.cluster.start_node(node)
                del self.back_at[node]

    def _alive_node(self) -> str | None:
        alive = [node for node in self.cluster.nodes if node not in self.back_at]
        return self.rng.choice(alive) if len(alive) > 2 else None


def _kill(pid: int, *, group: bool = False) -> bool:
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(pid, signal.SIGKILL)
        return True
    return False


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def calm(folder: Path) -> dict[str, Any]:
    """What the sweep comes to when nobody disturbs it."""
    answer = adadpo("launch", write_sweep(folder / "chaos.yaml", SWEEP), "--store", folder / "store")
    assert answer.code == 0, answer.err
    return outcome(folder / "store")


def outcome(store: Path) -> dict[str, Any]:
    """Bytes of the runs' results, the final table and the verdict."""
    results = load_results(store / "sweeps" / "chaos" / "results.json")
    table = {
        f"{row.arm} {row.setting} {row.seed}": {k: v for k, v in row.metrics.items() if "seconds" not in k}
        for row in results.runs
    }
    return {"files": contents(store), "table": table, "verdict": results.verdict, "counts": results.counts}


def damage(chaos: Chaos, expected: dict[str, Any]) -> dict[str, int]:
    """Lost: runs without a result. Duplicated: stages that were completed twice, by the runs' append-only logs.

    Corrupt: result files that differ from the calm ones, and files that do not parse. (A lease may be left of a worker
    that was killed when it had finished; its owner is dead, so nobody waits for it.)
    """
    report = adadpo("report", chaos.file, "--store", chaos.store)
    assert report.code == 0, report.err
    found = outcome(chaos.store)
    done = [
        log.read_text().count(f"sweeps: {stage} done")
        for log in chaos.store.glob("*/log.txt")
        for stage in STAGES
    ]
    files = {**expected["files"], **found["files"]}
    corrupt = sum(expected["files"].get(path) != found["files"].get(path) for path in files)
    for file in chaos.store.rglob("*.json"):
        try:
            json.loads(file.read_text())
        except ValueError:
            corrupt += 1
    return {
        "lost": 24 - found["counts"].get("done", 0),
        "duplicated": sum(count > 1 for count in done),
        "corrupt": corrupt,
        "table differs": int(found["table"] != expected["table"] or found["verdict"] != expected["verdict"]),
    }
