"""The cluster of the tests itself: real jobs, faked GPUs, preemption, a power cut, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.cluster import slurm_cluster
from tests.cluster.slurm_cluster import Cluster, processes_of


def test_jobs_run_on_nodes_with_gpus_of_their_own(slurm: Cluster, tmp_path: Path) -> None:
    """Eight jobs of one GPU on four nodes of two: each node twice, with another CUDA_VISIBLE_DEVICES each."""
    show = f"echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES > {tmp_path}/$SLURM_ARRAY_TASK_ID; sleep 2"
    slurm.command("sbatch", "--array=0-7", "--gpus=1", "--output=/dev/null", "--wrap", show)
    slurm.wait(lambda: len(list(tmp_path.iterdir())) == 8, 20, "eight jobs")
    slurm.wait_until_empty()
    found = {file.read_text().strip() for file in tmp_path.iterdir()}
    assert found == {f"n{node} {gpu}" for node in (1, 2, 3, 4) for gpu in (0, 1)}


def test_a_job_of_the_high_partition_preempts(slurm: Cluster) -> None:
    """All nodes full; the job of `main` that has to go is pending again, not lost."""
    slurm.command("sbatch", "--array=0-3", "--cpus-per-task=4", "--output=/dev/null", "--wrap", "sleep 60")
    slurm.wait(lambda: [*slurm.queue().values()] == ["RUNNING"] * 4, 20, "four jobs")
    slurm.command("sbatch", "-p", "high", "--cpus-per-task=4", "--output=/dev/null", "--wrap", "sleep 60")
    slurm.wait(
        lambda: [*slurm.queue().values()].count("RUNNING") == 4 and "PENDING" in slurm.queue().values(), 60
    )
    assert len(slurm.queue()) == 5


def test_a_power_cut_ends_a_nodes_processes_and_its_jobs_wait_for_another(slurm: Cluster) -> None:
    """The node is down without a word from it; Slurm requeues what it had."""
    slurm.command("sbatch", "-w", "n1", "--output=/dev/null", "--wrap", "exec sleep 300")
    slurm.wait(lambda: slurm.workers(), 20, "a running job")
    slurm.kill_node("n1")
    assert not slurm.workers()
    slurm.command("scontrol", "update", "nodename=n1", "state=down", "reason=power")
    slurm.wait(lambda: [*slurm.queue().values()] == ["PENDING"], 20, "the job pending again")


def test_sacct_answers_where_there_is_accounting(slurm_accounting: Cluster) -> None:
    """A finished and a failed job, in slurmdbd's words."""
    for code in (0, 3):
        slurm_accounting.command(
            "sbatch", "--wait", "--output=/dev/null", "--wrap", f"exit {code}", check=False
        )
    show = ("sacct", "-X", "-n", "-P", "-o", "State,ExitCode")
    slurm_accounting.wait(
        lambda: slurm_accounting.command(*show).split() == ["COMPLETED|0:0", "FAILED|3:0"],
        20,
        "two jobs in sacct",
    )


def test_nothing_is_left_of_a_cluster_whose_starter_was_killed(slurm: Cluster) -> None:
    """kill -9 of the script, with a job running: no daemon, no job, no folder. (`slurm`: skips as it does.)"""
    script = subprocess.Popen([sys.executable, slurm_cluster.__file__], stdout=subprocess.PIPE, text=True)
    assert script.stdout is not None
    conf = Path(script.stdout.readline().strip().partition("=")[2])
    environ = {**os.environ, "SLURM_CONF": str(conf)}
    submit = ["sbatch", "--output=/dev/null", "--wrap", "exec sleep 300"]
    subprocess.run(submit, env=environ, check=True, stdout=subprocess.DEVNULL)
    slurm.wait(lambda: len(processes_of(conf)) > 6, 20, "its daemons and a job")
    script.send_signal(signal.SIGKILL)
    script.wait()
    script.stdout.close()
    slurm.wait(lambda: not conf.parent.exists(), 30, "the guard")
    assert processes_of(conf) == []
