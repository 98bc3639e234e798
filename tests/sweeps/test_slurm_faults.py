"""What happens to jobs on a cluster, on a real one: afterwards one result for each run, bit for bit the calm one's.

A disturbance comes in the middle of some run's training, the next one when the job has gone on from it. The cluster has
no accounting: nothing here asks sacct.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.files import load_results
from sweeps.dispatch.submission import queue_of
from sweeps.store.layout import STAGES, read_json
from tests.cluster.slurm_cluster import Cluster
from tests.sweeps.sweep_examples import TWO, Answer, adadpo, contents, opened, write_sweep

# 4 runs of 24 optimiser steps with a checkpoint at each: time enough to be disturbed in.
LONGER = TWO.replace("warmup: 0", "checkpoint_steps: 1, epochs: 12, warmup: 0").replace(
    "[0.1]", "[0.1, 0.05]"
)
TRUTH_SECONDS = 30.0  # until the status says what has happened


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a launch that nothing disturbs."""
    folder = tmp_path_factory.mktemp("calm")
    answer = adadpo("launch", write_sweep(folder / "two.yaml", LONGER), "--store", folder / "store")
    assert answer.code == 0, answer.err
    return folder / "store"


class Running:
    """A sweep of four runs, in the middle of the first one's training."""

    def __init__(self, slurm: Cluster, folder: Path, **keys: Any) -> None:
        launch = {"executor": "slurm", "cpus_per_task": 4, **keys}
        text = LONGER.replace("launch: {executor: inline}", f"launch: {json.dumps(launch)}")
        self.slurm, self.store, self.file = slurm, folder / "store", write_sweep(folder / "two.yaml", text)
        self.command("launch")
        self.steps, self.job = 0, ""
        self.wait_for_steps()

    def command(self, verb: str, *words: str) -> Answer:
        answer = adadpo(verb, self.file, *words, "--store", self.store)
        assert answer.code == 0, answer.err
        return answer

    def status(self) -> dict[str, Any]:
        return dict(self.command("status", "--json").json)

    def wait_for_steps(self) -> None:
        """Until two more steps were made, with checkpoints, and nothing but their job runs.

        (What waited for a cancelled job, its judging and its report, runs for a moment beside the next one.)
        """

        def steps() -> int:
            return sum(
                len(file.read_text().splitlines()) for file in self.store.glob("*/train/history.jsonl")
            )

        def alone() -> bool:
            running = [job for job, state in self.slurm.queue().items() if state == "RUNNING"]
            self.job = running[0] if len(running) == 1 else ""
            return bool(self.job)

        self.slurm.wait(
            lambda: steps() >= self.steps + 2 and any(self.owners()) and alone(), 180, "steps of one job"
        )
        self.steps = steps()

    def owners(self) -> list[dict[str, Any]]:
        return [read_json(file) for file in self.store.glob("*/lease.json")]

    @property
    def node(self) -> str:
        return self.slurm.command("squeue", "-h", "-j", self.job, "-o", "%N").strip()


def preempted(sweep: Running) -> None:
    """A job of the high partition takes the node; Slurm warns by SIGUSR2 or SIGTERM, whatever it is configured for."""
    where = ("-p", "high", "-w", sweep.node, "--cpus-per-task=4")
    sweep.slurm.command("sbatch", *where, "--output=/dev/null", "--wrap", "sleep 2")


def warned(sweep: Running) -> None:
    """The signal that Slurm sends before the time limit."""
    sweep.slurm.command("scancel", "--signal=USR2", sweep.job)


def requeued(sweep: Running) -> None:
    """By hand."""
    sweep.slurm.command("scontrol", "requeue", sweep.job)


def cancelled(sweep: Running) -> None:
    """By hand, and launched again; the status says that nothing runs."""
    sweep.slurm.command("scancel", sweep.job)
    began = time.monotonic()
    while "running" in (now := sweep.status())["counts"]:
        assert time.monotonic() - began < TRUTH_SECONDS
        time.sleep(0.5)
    assert now["counts"]["waiting"] >= 1
    sweep.slurm.wait(lambda: sweep.job not in sweep.slurm.queue(), 30, "the job gone")
    sweep.command("launch")


def power_cut(sweep: Running) -> None:
    """Everything on the node is gone at once; the status says so."""
    node = sweep.node
    sweep.slurm.kill_node(node)
    cut = time.monotonic()
    sweep.slurm.command("scontrol", "update", f"nodename={node}", "state=down", "reason=power")
    while any(run["host"] == node for run in sweep.status()["working"]):
        assert time.monotonic() - cut < TRUTH_SECONDS
        time.sleep(0.5)


def slurmd_killed(sweep: Running) -> None:
    """Slurm takes the node for dead and starts the job elsewhere, while its process there goes on."""
    node = sweep.node
    sweep.slurm.kill_slurmd(node)
    sweep.slurm.command("scontrol", "update", f"nodename={node}", "state=down", "reason=silent")


@pytest.mark.parametrize(
    "disturbances",
    [[preempted, warned, requeued], [cancelled, power_cut, slurmd_killed]],
    ids=lambda each: "-".join(one.__name__ for one in each),
)
def test_a_disturbed_sweep_ends_as_the_calm_one(
    tmp_path: Path, slurm: Cluster, calm: Path, disturbances: list[Callable[[Running], None]]
) -> None:
    """Bytes of every result; each stage of each run was completed once; nothing is left behind."""
    sweep = Running(slurm, tmp_path, runs_per_job=4)
    for number, disturb in enumerate(disturbances):
        if number:
            sweep.wait_for_steps()
        first = {(owner["slurm_job_id"], owner["slurm_restarts"]) for owner in sweep.owners()}
        disturb(sweep)
        if disturb is not slurmd_killed:  # there, the process that goes on does all of it
            slurm.wait(
                lambda first=first: any(
                    (owner["slurm_job_id"], owner["slurm_restarts"]) not in first for owner in sweep.owners()
                ),
                120,
                f"another start after: {disturb.__name__}",
            )
    slurm.wait_until_empty(400)
    assert contents(sweep.store) == contents(calm)
    logs = [log.read_text() for log in sweep.store.glob("*/log.txt")]
    assert len(logs) == 4
    for log in logs:
        assert [log.count(f"sweeps: {stage} done") for stage in STAGES] == [1, 1, 1, 1], log
    assert sweep.status()["counts"] == {"done": 4}
    assert (sweep.store / "sweeps" / "two" / "report.html").exists()
    assert not list(sweep.store.rglob("lease.json"))
    assert not list(sweep.store.rglob("*.part"))


def test_cancelled_runs_leave_the_queue_and_come_back_when_retried(
    tmp_path: Path, slurm: Cluster, calm: Path
) -> None:
    """A pending cell by its words, then all that is left, one run in training among it; then the other cell again."""
    running = Running(slurm, tmp_path, array_parallelism=1)
    sweep = opened(running.file, running.store)

    def queued() -> list[str]:
        return sorted(run for job in queue_of(sweep, shared=False) for run in job.runs)

    def runs(beta: float) -> list[str]:
        return sorted(run.run_id for run in sweep.job.runs if run.hyperparameters["beta"] == beta)

    assert queued() == sorted(runs(0.1) + runs(0.05))
    said = running.command("cancel", "beta=0.05").out
    assert "two: 2 runs cancelled" in said
    assert "Slurm jobs cancelled: " in said
    assert queued() == runs(0.1)
    assert running.job in slurm.queue()
    assert running.status()["counts"] == {"running": 1, "waiting": 1, "cancelled": 2}

    said = running.command("cancel").out
    assert "two: 2 runs cancelled" in said
    assert queued() == []
    assert running.job not in slurm.queue()
    assert not running.owners()
    assert running.status()["counts"] == {"cancelled": 4}
    slurm.wait_until_empty()
    results = load_results(sweep.folder / "results.json")
    assert results.counts == {"cancelled": 4}
    reasons = [failure.reason for failure in results.failures]
    assert reasons == ["cancelled; not started"] * 4, reasons
    assert "4 runs, 0 done, 0 to do" in running.command("launch").out
    assert slurm.queue() == {}

    running.command("retry", "state:cancelled", "beta=0.1")
    assert queued() == runs(0.1)
    slurm.wait_until_empty(300)
    assert running.status()["counts"] == {"done": 2, "cancelled": 2}
    expected = {
        path: digest for path, digest in contents(calm).items() if path.split("/")[0] not in runs(0.05)
    }
    assert contents(running.store) == expected
    results = load_results(sweep.folder / "results.json")
    assert {failure.run_id: failure.state for failure in results.failures} == dict.fromkeys(
        runs(0.05), "cancelled"
    )
