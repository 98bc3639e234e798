"""Runs whose jobs on Slurm are gone without their result: the last job notes attempts, and may submit them again."""

from __future__ import annotations

import time

from sweeps.attempts import note_end, note_loss
from sweeps.dispatch.ended import Ended, ended_jobs, got_somewhere
from sweeps.dispatch.submission import queue_of, states_in_queue
from sweeps.errors import FailureError
from sweeps.lease import QUIET_SECONDS, held
from sweeps.resolve import PlannedRun
from sweeps.slurm_queue import slurm_jobs
from sweeps.store import STAGES
from sweeps.sweep import Sweep

POLL_SECONDS = 1.0


def note_losses(sweep: Sweep) -> int:
    """Note every run whose job Slurm has no more, begun or not; returns how many may be tried again.

    Each such job has led to an attempt of one of its runs, or came further than the one before it, so that whoever
    submits them again does not do it for ever. Jobs that said why they leave their runs, and those that a person
    cancelled, are not lost.
    """
    lost: set[str] = set()
    deadline = time.monotonic() + QUIET_SECONDS + 2 * POLL_SECONDS
    for run in sweep.job.runs:
        folder = sweep.store.run(run.run_id)
        while _is_of_a_gone_job(folder.lease.read() or {}) and not folder.done(sweep.eval_id):
            with held(folder.lease) as lease:
                if lease is not None and lease.previous is not None:
                    note_loss(folder, lease.previous, sweep.job.retries)
                    lost.add(run.run_id)
                    break
            if time.monotonic() > deadline:  # it is refreshed all the same
                break
            time.sleep(POLL_SECONDS)  # silent for too short a time for anybody to be sure
    waiting = {run.run_id: run for run in without_job(sweep)}
    for ended in ended_jobs(sweep, waiting):
        left = [waiting[run_id] for run_id in ended.runs if run_id in waiting]
        began = [
            run_id
            for run_id in ended.runs
            if got_somewhere(sweep.store.run(run_id), sweep.eval_id, ended.submitted)
        ]
        if ended.cause is not None and not began:
            _note_unbegun(sweep, ended, left)
        if ended.cause is not None:
            lost |= {run.run_id for run in left}
        lost |= {run.run_id for run in left if run.run_id in began}  # its attempt says that it is tried again
    return sum(sweep.store.run(run_id).failed(sweep.eval_id) is None for run_id in lost)


def without_job(sweep: Sweep) -> list[PlannedRun]:
    """The runs that wait and that no job on Slurm is going to do; none where Slurm does not answer."""
    try:
        queue = queue_of(sweep, shared=False)
    except FailureError:
        return []
    queued = states_in_queue(each for each in queue if each.job.state != "COMPLETING")
    return [run for run in sweep.select("waiting") if run.run_id not in queued]


def _note_unbegun(sweep: Sweep, ended: Ended, runs: list[PlannedRun]) -> None:
    """An attempt of each run of a job that ended before it took one of them."""
    assert ended.cause is not None
    for run in runs:
        folder = sweep.store.run(run.run_id)
        stage = next(stage for stage in STAGES if not folder.has(stage, sweep.eval_id))
        with held(folder.lease) as lease:
            if lease is not None and folder.outcome(sweep.eval_id) == "waiting":
                said = f"before the run was begun, {ended}"
                note_end(folder, ended.cause, said, sweep.job.retries, stage, slurm_job_id=ended.label)


def _is_of_a_gone_job(owner: dict[str, object]) -> bool:
    if owner.get("slurm_job_id") is None:
        return False
    try:
        return owner["slurm_job_id"] not in {job.job_id for job in slurm_jobs()}
    except FailureError:
        return False
