"""Runs whose jobs on Slurm ended without a word: the last job notes them as attempts, and may submit them again."""

from __future__ import annotations

import time

from sweeps.attempts import note_loss
from sweeps.errors import FailureError
from sweeps.lease import QUIET_SECONDS, held
from sweeps.slurm_queue import slurm_jobs
from sweeps.sweep import Sweep

POLL_SECONDS = 1.0


def note_losses(sweep: Sweep) -> int:
    """Note every run whose owner was a job that Slurm has no more; returns how many may be tried again.

    Each of them has one attempt more than before, so that whoever submits them again does not do it for ever.
    """
    found = 0
    deadline = time.monotonic() + QUIET_SECONDS + 2 * POLL_SECONDS
    for run in sweep.job.runs:
        folder = sweep.store.run(run.run_id)
        while _is_of_a_gone_job(folder.lease.read() or {}) and not folder.done(sweep.eval_id):
            with held(folder.lease) as lease:
                if lease is not None and lease.previous is not None:
                    note_loss(folder, lease.previous, sweep.job.retries)
                    found += folder.failed(sweep.eval_id) is None
                    break
            if time.monotonic() > deadline:  # it is refreshed all the same
                break
            time.sleep(POLL_SECONDS)  # silent for too short a time for anybody to be sure
    return found


def _is_of_a_gone_job(owner: dict[str, object]) -> bool:
    if owner.get("slurm_job_id") is None:
        return False
    try:
        return owner["slurm_job_id"] not in {job.job_id for job in slurm_jobs()}
    except FailureError:
        return False
