"""What happens to jobs on a cluster, on a real one: afterwards one result for each run, bit for bit the calm one's.

The disturbance comes when the first run has a checkpoint, in the middle of its training.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slurm_cluster import Cluster
from sweep_examples import TWO, adadpo, contents, write_sweep

from sweeps.store import STAGES

# 32 optimiser steps with a checkpoint at each: time enough to be disturbed in.
LONGER = TWO.replace("warmup: 0", "checkpoint_steps: 1, epochs: 16, warmup: 0")


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The results of a launch that nothing disturbs."""
    folder = tmp_path_factory.mktemp("calm")
    answer = adadpo("launch", write_sweep(folder / "two.yaml", LONGER), "--store", folder / "store")
    assert answer.code == 0, answer.err
    return contents(folder / "store")


class Running:
    """A sweep of two runs in one job, in the middle of the first run's training."""

    def __init__(self, slurm: Cluster, folder: Path, **keys: Any) -> None:
        launch = {"executor": "slurm", "runs_per_job": 2, "cpus_per_task": 4, **keys}
        text = LONGER.replace("launch: {executor: inline}", f"launch: {json.dumps(launch)}")
        self.slurm, self.store, self.file = slurm, folder / "store", write_sweep(folder / "two.yaml", text)
        self.launch()
        slurm.wait(lambda: any(self.checkpoints()), 180, "a checkpoint")
        [self.job] = [job for job, state in slurm.queue().items() if state == "RUNNING"]

    def launch(self) -> None:
        answer = adadpo("launch", self.file, "--store", self.store)
        assert answer.code == 0, answer.err

    def checkpoints(self) -> list[Path]:
        return list(self.store.glob("*/train/checkpoints/checkpoint-*"))

    @property
    def node(self) -> str:
        return self.slurm.command("squeue", "-h", "-j", self.job, "-o", "%N").strip()

    def counts(self) -> dict[str, int]:
        return dict(adadpo("status", self.file, "--store", self.store, "--json").json["counts"])


def preempted(sweep: Running) -> None:
    """A job of the high partition takes the node; Slurm warns by SIGUSR2 or SIGTERM, whatever it is configured for."""
    sweep.slurm.command(
        *(
            "sbatch",
            "-p",
            "high",
            "-w",
            sweep.node,
            "--cpus-per-task=4",
            "--output=/dev/null",
            "--wrap",
            "sleep 2",
        )
    )


def warned(sweep: Running) -> None:
    """The signal that Slurm sends before the time limit."""
    sweep.slurm.command("scancel", "--signal=USR2", sweep.job)


def requeued(sweep: Running) -> None:
    """By hand."""
    sweep.slurm.command("scontrol", "requeue", sweep.job)


def cancelled(sweep: Running) -> None:
    """By hand, and launched again."""
    sweep.slurm.command("scancel", sweep.job)
    sweep.slurm.wait(lambda: sweep.job not in sweep.slurm.queue(), 30, "the job gone")
    sweep.launch()


def power_cut(sweep: Running) -> None:
    """Everything on the node is gone at once; half a minute later at most, the status says so."""
    node = sweep.node
    sweep.slurm.kill_node(node)
    cut = time.monotonic()
    sweep.slurm.command("scontrol", "update", f"nodename={node}", "state=down", "reason=power")
    while "running" in sweep.counts():
        assert time.monotonic() - cut < 30
        time.sleep(1)


def slurmd_killed(sweep: Running) -> None:
    """Slurm takes the node for dead and starts the job elsewhere, while its process there goes on."""
    node = sweep.node
    sweep.slurm.kill_slurmd(node)
    sweep.slurm.command("scontrol", "update", f"nodename={node}", "state=down", "reason=silent")


@pytest.mark.parametrize(
    "disturb", [preempted, warned, requeued, cancelled, power_cut, slurmd_killed], ids=lambda d: d.__name__
)
def test_a_disturbed_sweep_ends_as_the_calm_one(
    tmp_path: Path, slurm: Cluster, calm: dict[str, str], disturb: Callable[[Running], None]
) -> None:
    """Bytes of every result; each stage of each run was completed once; nothing is left behind."""
    sweep = Running(slurm, tmp_path)
    disturb(sweep)
    slurm.wait_until_empty(400)
    assert contents(sweep.store) == calm
    logs = [log.read_text() for log in sweep.store.glob("*/log.txt")]
    assert len(logs) == 2
    for log in logs:
        assert [log.count(f"sweeps: {stage} done") for stage in STAGES] == [1, 1, 1, 1], log
    assert sweep.counts() == {"done": 2}
    assert (sweep.store / "sweeps" / "two" / "report.html").exists()
    assert not list(sweep.store.rglob("lease.json"))
    assert not list(sweep.store.rglob("*.part"))
    if disturb is not slurmd_killed:  # there, the process that went on did all of it
        assert sum(log.count("sweeps: train starts") for log in logs) == 3, logs
