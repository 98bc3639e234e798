"""A Slurm job that does several of its runs at a time: a worker process for each place on its GPUs.

Every worker goes through all of the job's runs and does those that nobody has (leases). One that is lost takes no other
with it; what it had, and what found too little memory beside others, is left to the job's own process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from adadpo.errors import FailureError, StoppedError
from sweeps.execution.gpu_packing import Sharing, measured_need, sharing_here, threads_each, visible_gpus
from sweeps.store.control_files import ControlFiles
from sweeps.store.host import SHARERS
from sweeps.store.job import Job
from sweeps.store.layout import Store

STOPPED = 75  # exit code of a worker that was asked to leave and did
POLL_SECONDS = 0.3
# Until Python has its handler, SIGUSR2 would kill it, and with it what Slurm meant as a warning.
SHIELD = ("sh", "-c", 'trap "" USR2; exec "$@"', "adadpo")


def do_side_by_side(
    job: Job, command: Sequence[str], runs_per_gpu: int, asked: Callable[[], int | None]
) -> None:
    """Have workers do the job's runs, but for what they leave to one process alone.

    Args:
        job: the runs.
        command: of a worker.
        runs_per_gpu: workers on each GPU, if they fit.
        asked: the signal that asked this process to leave; the workers are told.

    Raises:
        StoppedError: it was asked to, and all workers have left.
        FailureError: a worker met something that concerns every run.
    """
    store, eval_id = Store(Path(job.store)), job.evaluation.eval_id
    sharing = sharing_here(visible_gpus(), runs_per_gpu)
    launched = ControlFiles(store.sweep(job.sweep)).launched().get("runs", [])  # of the whole sweep
    need = measured_need(store, launched, eval_id)
    workers: list[subprocess.Popen[bytes]] = []
    told = False
    while not workers or any(worker.poll() is None for worker in workers):
        need = need or measured_need(store, (run.run_id for run in job.runs), eval_id)
        if need is not None and not told:
            told = True
            print(sharing.said(need) or f"{sharing.most} runs at a time", flush=True)
        # A worker that has ended found nothing left to do, or fewer fit than was thought.
        if asked() is None and all(worker.poll() is None for worker in workers):
            for number in range(len(workers), min(sharing.workers(need), len(job.runs))):
                workers.append(_start(command, sharing, number))
        for worker in workers:
            if (leave := asked()) is not None and worker.poll() is None:
                worker.send_signal(leave)  # again and again: it may have had no handler yet
        time.sleep(POLL_SECONDS)
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.close()
    if asked() is not None:
        raise StoppedError("asked to stop: all workers have left")
    for worker in workers:
        if worker.returncode < 0:
            name = signal.Signals(-worker.returncode).name
            print(f"adadpo: worker {worker.pid} ended by {name} (out of memory?)", file=sys.stderr)
    if any(worker.returncode > 0 and worker.returncode != STOPPED for worker in workers):
        raise FailureError("a worker of this job ended by an error, which it told above")


def end_with_the_starter() -> None:
    """In a worker: end at once when the process that started it is gone; its other end of stdin closes then."""

    def watch() -> None:
        os.read(0, 1)  # not sys.stdin, whose lock this thread would hold when Python ends
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _start(command: Sequence[str], sharing: Sharing, number: int) -> subprocess.Popen[bytes]:
    environ = {**os.environ, SHARERS: str(sharing.wanted), "OMP_NUM_THREADS": str(threads_each(sharing.most))}
    if sharing.gpus:
        environ["CUDA_VISIBLE_DEVICES"] = sharing.gpus[number % len(sharing.gpus)]
    return subprocess.Popen([*SHIELD, *command], env=environ, stdin=subprocess.PIPE)
