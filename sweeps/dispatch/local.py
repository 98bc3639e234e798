"""Runs in worker processes of this machine, as submitit jobs. A job is a JSON file; its worker reads it."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from adadpo.errors import FailureError
from analysis.results.values import State
from sweeps.config.launch import Local
from sweeps.execution.gpu_packing import (
    Memory,
    Sharing,
    measured_need,
    sharing_here,
    threads_each,
    visible_gpus,
)
from sweeps.execution.progress import SweepProgress
from sweeps.execution.stages import execute
from sweeps.failures.attempts import needs_a_gpu_alone
from sweeps.state.sweep import Sweep
from sweeps.store.allocator import kept_memory
from sweeps.store.host import SHARERS
from sweeps.store.job import Job, PlannedRun
from sweeps.store.layout import read_json, write_json
from sweeps.store.signals import held_back, interrupt, postponed

POLL_SECONDS = 0.5
PATIENCE_SECONDS = 3.0  # for a worker to leave in order


def local_work(job_file: str, threads: int, gpu: str | None, sharers: int = 1) -> dict[str, str]:
    """`work` in a worker of `launch_local`; submitit hides every GPU from it, `gpu` is the one it may use."""
    signal.signal(signal.SIGINT, interrupt)  # by a lease, when its run is cancelled or another's by now
    signal.signal(signal.SIGTERM, _leave)
    os.environ[SHARERS] = str(sharers)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    return work(job_file, threads)


def _leave(signal_number: int, frame: FrameType | None) -> None:
    if postponed(signal_number, frame):
        return
    signal.signal(signal.SIGTERM, lambda *_: os._exit(130))  # asked twice: whatever it is doing
    raise KeyboardInterrupt


def work(job_file: str, threads: int | None = None) -> dict[str, str]:
    """What a worker does: the runs of one job; returns run id -> how it ended.

    Args:
        job_file: from `write_jobs`.
        threads: for torch; None: its own choice.
    """
    job = Job.model_validate(read_json(Path(job_file)))
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
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
    gpus = visible_gpus()
    sharing = None if launch.runs_per_gpu is None or not gpus else sharing_here(gpus, launch.runs_per_gpu)
    ended: set[str] = set()
    with SweepProgress(console, len(sweep.job.runs), len(sweep.job.runs) - len(runs)) as progress:
        show = partial(follow_files, sweep, runs, ended, progress)
        failures = _Workers(sweep, launch, gpus, sharing, console).do(runs, show)
        crowded = [run for run in runs if _was_crowded(sweep, run)]
        if crowded and sharing is not None:
            said = f"{len(crowded)} runs were out of memory next to other runs: they continue alone"
            console.print(said, markup=False, highlight=False)
            alone = replace(sharing, wanted=1)
            failures += _Workers(sweep, launch, gpus, alone, console).do(crowded, show)
    if failures:
        raise FailureError(failures[0])


def _was_crowded(sweep: Sweep, run: PlannedRun) -> bool:
    folder = sweep.store.run(run.run_id)
    return needs_a_gpu_alone(folder) and folder.state(sweep.eval_id) == State.WAITING


class _Workers:
    """Worker processes that share out some runs."""

    def __init__(
        self, sweep: Sweep, launch: Local, gpus: list[str], sharing: Sharing | None, console: Console
    ) -> None:
        """`sharing`: None: `launch.workers` of them, one GPU after another."""
        self.sweep, self.launch, self.gpus, self.sharing, self.console = sweep, launch, gpus, sharing, console
        self.most = launch.workers if sharing is None else sharing.most
        self.slots: dict[int, Any] = {}  # worker -> its job
        self.need: Memory | None = None

    def do(self, runs: list[PlannedRun], show: Callable[[], None]) -> list[str]:
        """Bring runs to their end; returns why workers ended otherwise. `show` is called now and then."""
        per_job = self.launch.runs_per_job or -(-len(runs) // self.most)
        waiting, failures = write_jobs(self.sweep, runs, per_job), []
        try:
            while waiting or self.slots:
                for slot in range(self._allowed()):
                    if slot not in self.slots and waiting:
                        self._start(slot, waiting.pop(0))
                time.sleep(POLL_SECONDS)
                show()
                for slot, job in [(slot, job) for slot, job in self.slots.items() if job.done()]:
                    del self.slots[slot]
                    if error := job.exception():
                        failures.append(_cause(error, job.paths.folder))
        finally:
            _end(list(self.slots.values()))  # Ctrl-C: the workers end with the launcher
        show()
        return failures

    def _allowed(self) -> int:
        """Workers at a time."""
        if self.sharing is None or self.sharing.wanted == 1:
            return self.most
        if self.need is None:
            ids = (run.run_id for run in self.sweep.job.runs)
            self.need = measured_need(self.sweep.store, ids, self.sweep.eval_id)
            if self.need is not None and (said := self.sharing.said(self.need)):
                self.console.print(said, markup=False, highlight=False)
        return self.sharing.workers(self.need)

    def _start(self, slot: int, file: Path) -> None:
        from submitit import LocalExecutor

        size, gpus = self.launch.tasks_per_node, self.gpus
        threads = threads_each(self.most * size)
        mine = [gpus[(slot * size + i) % len(gpus)] for i in range(min(size, len(gpus)))]
        sharers = 1 if self.sharing is None else self.sharing.wanted
        executor = LocalExecutor(folder=file.parent)
        executor.update_parameters(timeout_min=self.launch.timeout_min, tasks_per_node=size)
        # Ctrl-C reaches everything that a terminal runs; workers are to be ended by the launcher alone, and it must
        # know them for that: one whose submission is broken off would go on, or wait for its job for a minute.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            # Not beside a GPU: there, memory of the CPU that was taken once to load a model would never be given back.
            huge = self.launch.huge_pages and not mine
            with held_back(signal.SIGTERM), kept_memory(huge_pages=huge):
                self.slots[slot] = executor.submit(
                    local_work, str(file), threads, ",".join(mine) or None, sharers
                )
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _end(jobs: Sequence[Any]) -> None:
    """End workers, and wait until they have given up their leases."""
    for _ in range(3):
        deadline = time.monotonic() + PATIENCE_SECONDS
        for job in jobs:
            if not job.done():
                job._process.send_signal(signal.SIGTERM)  # which submitit's controller hands on
        while time.monotonic() < deadline and not all(job.done() for job in jobs):
            time.sleep(0.05)


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
        if state in (State.DONE, State.DIVERGED, State.FAILED):
            ended.add(run.run_id)
            progress.end(run, state)
        elif state == State.RUNNING and (owner := folder.lease.read()) and owner.get("progress"):
            now = owner["progress"]
            progress.update(run, now["stage"], now["done"], now["total"])


# Runs in this process, one after another.


def launch_inline(sweep: Sweep, runs: list[PlannedRun], console: Console) -> None:
    """Bring the runs to their end.

    Raises:
        SweepError: something that concerns every run.
    """
    finished = len(sweep.job.runs) - len(runs)
    with SweepProgress(console, len(sweep.job.runs), finished) as progress:
        execute(sweep.job.model_copy(update={"runs": runs}), progress.update, progress.end)
