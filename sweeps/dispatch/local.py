"""Runs in worker processes of this machine, as submitit jobs. A job is a JSON file; its worker reads it."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from sweeps.errors import FailureError
from sweeps.launch_spec import Local
from sweeps.progress import SweepProgress
from sweeps.resolve import Job, PlannedRun
from sweeps.stages import execute
from sweeps.store import read_json, write_json
from sweeps.sweep import Sweep

POLL_SECONDS = 0.5
PATIENCE_SECONDS = 3.0  # for a worker to leave in order


def local_work(job_file: str, threads: int, gpu: str | None) -> dict[str, str]:
    """`work` in a worker of `launch_local`; submitit hides every GPU from it, `gpu` is the one it may use."""
    signal.signal(signal.SIGTERM, _leave)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    return work(job_file, threads)


def _leave(signal_number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(130))  # asked twice: whatever it is doing
    raise KeyboardInterrupt


def work(job_file: str, threads: int | None = None) -> dict[str, str]:
    """What a worker does: the runs of one job; returns run id -> how it ended.

    Args:
        job_file: from `write_jobs`.
        threads: for torch; None: its own choice.
    """
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    job = Job.model_validate(read_json(Path(job_file)))
    ended: dict[str, str] = {}
    execute(job, lambda run, stage, done, total: None, lambda run, state: ended.update({run.run_id: state}))
    return ended


def write_jobs(sweep: Sweep, runs: list[PlannedRun], runs_per_job: int) -> list[Path]:
    """A file for each job, with nothing in it that its worker does not need."""
    files = []
    for start in range(0, len(runs), runs_per_job):
        job = sweep.job.model_copy(update={"runs": runs[start : start + runs_per_job]})
        file = sweep.folder / "jobs" / uuid.uuid4().hex[:12] / "job.json"
        write_json(file, job.model_dump(mode="json"))
        files.append(file)
    return files


def launch_local(sweep: Sweep, runs: list[PlannedRun], launch: Local, console: Console) -> None:
    """Bring the runs to their end in worker processes, and follow them.

    Raises:
        FailureError: a worker ended by something that concerns every run.
    """
    from submitit import LocalExecutor

    per_job = launch.runs_per_job or -(-len(runs) // launch.workers)
    # Workers that each start a thread per core spend most of their time waiting for one another.
    size = launch.tasks_per_node
    threads = max(1, len(os.sched_getaffinity(0)) // (launch.workers * size))
    waiting = write_jobs(sweep, runs, per_job)
    gpus = _gpus()
    slots: dict[int, Any] = {}  # worker -> its job
    failures: list[str] = []
    ended: set[str] = set()
    with SweepProgress(console, len(sweep.job.runs), len(sweep.job.runs) - len(runs)) as progress:
        try:
            while waiting or slots:
                for slot in range(launch.workers):
                    if slot in slots or not waiting:
                        continue
                    file = waiting.pop(0)
                    executor = LocalExecutor(folder=file.parent)
                    executor.update_parameters(timeout_min=launch.timeout_min, tasks_per_node=size)
                    gpu = (
                        ",".join(gpus[(slot * size + i) % len(gpus)] for i in range(min(size, len(gpus))))
                        or None
                    )
                    # Ctrl-C reaches everything that a terminal runs; workers are to be ended by the launcher alone.
                    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
                    try:
                        slots[slot] = executor.submit(local_work, str(file), threads, gpu)
                    finally:
                        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
                time.sleep(POLL_SECONDS)
                follow_files(sweep, runs, ended, progress)
                for slot, job in [(slot, job) for slot, job in slots.items() if job.done()]:
                    del slots[slot]
                    if error := job.exception():
                        failures.append(_cause(error, job.paths.folder))
        finally:
            _end(list(slots.values()))  # Ctrl-C: the workers end with the launcher
        follow_files(sweep, runs, ended, progress)
    if failures:
        raise FailureError(failures[0])


def _end(jobs: Sequence[Any]) -> None:
    """End workers, and wait until they have given up their leases."""
    for _ in range(3):
        deadline = time.monotonic() + PATIENCE_SECONDS
        for job in jobs:
            if not job.done():
                job._process.send_signal(signal.SIGTERM)  # which submitit's controller hands on
        while time.monotonic() < deadline and not all(job.done() for job in jobs):
            time.sleep(0.05)


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def _cause(error: Exception, folder: Path) -> str:
    """The last line of a worker's traceback, without the exception's name."""
    from submitit.core.utils import FailedJobError

    if not isinstance(error, FailedJobError):  # no result at all, not even an exception
        return f"a worker ended without a word (killed? out of memory?); its output is in {folder}"
    text = str(error)
    line = next((line for line in reversed(text.splitlines()) if "Error" in line), text.strip())
    return line.partition("Error: ")[2] or line


def follow_files(sweep: Sweep, runs: list[PlannedRun], ended: set[str], progress: SweepProgress) -> None:
    """Show what the workers' files say."""
    for run in runs:
        if run.run_id in ended:
            continue
        folder = sweep.store.run(run.run_id)
        state = folder.state(sweep.eval_id)
        if state in ("done", "diverged", "failed"):
            ended.add(run.run_id)
            progress.end(run, state)
        elif state == "running" and (owner := folder.lease.read()) and owner.get("progress"):
            now = owner["progress"]
            progress.update(run, now["stage"], now["done"], now["total"])
