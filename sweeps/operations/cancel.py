"""Taking runs back: who works on one leaves it at its next step, nobody begins it, until it is retried."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from adadpo.errors import FailureError, UserError
from analysis.results.values import State
from sweeps.config.launch import Slurm
from sweeps.state.sweep import Sweep
from sweeps.store.job import PlannedRun
from sweeps.store.lease import is_here

OPEN = (State.WAITING, State.RUNNING, State.UNKNOWN)
OVER = (State.DONE, State.DIVERGED, State.FAILED)
# Workers look at every step, and within a step every few seconds; after this, a process of this machine is ended.
PATIENCE_SECONDS = 20.0
POLL_SECONDS = 0.2


@dataclass
class Cancelled:
    """What became of the chosen runs.

    Attributes:
        cancelled_ids: nobody works on them any more.
        still_running: their owner has not left yet.
        elsewhere: another sweep that shares them works on them, and goes on.
        jobs: of Slurm that were cancelled.
    """

    cancelled_ids: list[PlannedRun] = field(default_factory=list)
    still_running: list[PlannedRun] = field(default_factory=list)
    elsewhere: list[PlannedRun] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)


def cancel_runs(
    sweep: Sweep, chosen: Sequence[PlannedRun], on_wait: Callable[[int], None] = lambda left: None
) -> Cancelled:
    """Cancel those of some runs that are not over; results that are there stay.

    Args:
        sweep: whose; another sweep that has the same run keeps it.
        chosen: runs.
        on_wait: called now and then with the number of runs whose owner has not left yet.

    Raises:
        UserError: all of them are over.
    """
    states = sweep.states()
    open_runs = [run for run in chosen if states[run.run_id] in OPEN]
    if not open_runs:
        said = ", ".join(sorted({states[run.run_id] for run in chosen}))
        raise UserError(f"nothing to cancel in {sweep.spec.name}: the chosen runs are {said}")
    for run in open_runs:
        sweep.control.cancel(run.run_id)
    found = Cancelled()
    mine: list[PlannedRun] = []
    for run in open_runs:
        owner = sweep.store.run(run.run_id).lease.read() or {}
        other = owner.get("sweep") not in (None, sweep.spec.name)
        (found.elsewhere if other and states[run.run_id] == State.RUNNING else mine).append(run)
    found.jobs += _cancel_jobs(sweep, pending=True)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (left := _running(sweep, mine)) and time.monotonic() < deadline:
        on_wait(len(left))
        time.sleep(POLL_SECONDS)
    # Also where the workers left by themselves: a job that is only about to begin would hold its node for nothing.
    found.jobs += _cancel_jobs(sweep, pending=False)
    _wait_for_jobs(sweep, found.jobs)
    if left and not sweep.select(State.WAITING):  # nothing else would be lost with the process
        for run in left:
            _end_owner(sweep.store.run(run.run_id).lease.read() or {})
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (left := _running(sweep, mine)) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
    found.still_running = left
    found.cancelled_ids = [run for run in mine if run not in left and sweep.state(run) == State.CANCELLED]
    return found


def _cancel_jobs(sweep: Sweep, *, pending: bool) -> list[str]:
    """Cancel the Slurm jobs that hold nothing but cancelled runs; a packed job with others passes those by itself.

    Args:
        sweep: whose jobs.
        pending: those that have not begun; else those that have.

    Raises:
        FailureError: Slurm does not answer; the runs are cancelled all the same.
    """
    if not isinstance(sweep.spec.launch, Slurm):
        return []
    from sweeps.dispatch.submission import queue_of

    states = sweep.states()
    labels = []
    for queued in queue_of(sweep, shared=False):
        if not queued.runs or (queued.job.state == "PENDING") is not pending:
            continue
        left = [run_id for run_id in queued.runs if states.get(run_id) not in OVER]
        if left and all(sweep.control.cancelled(run_id) for run_id in left):
            labels.append(queued.job.label)
    if labels:
        try:
            subprocess.run(
                ["scancel", "--quiet", *labels], check=True, capture_output=True, text=True, timeout=60
            )
        except (OSError, subprocess.SubprocessError) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip()
            raise FailureError(
                f"scancel does not answer: {said}; the runs are cancelled for all workers"
            ) from error
    return labels


def _wait_for_jobs(sweep: Sweep, labels: Sequence[str]) -> None:
    """Until Slurm has cancelled jobs no more: a run that is retried would else be taken for queued."""
    from sweeps.dispatch.submission import queue_of

    deadline = time.monotonic() + PATIENCE_SECONDS
    while labels and time.monotonic() < deadline:
        if not {queued.job.label for queued in queue_of(sweep, shared=False)} & {*labels}:
            return
        time.sleep(5 * POLL_SECONDS)


def _running(sweep: Sweep, runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    return [run for run in runs if sweep.state(run) in (State.RUNNING, State.UNKNOWN)]


def _end_owner(owner: dict[str, Any]) -> None:
    """End a lease's owner politely, if it is a process of this machine and still the same one."""
    if is_here(owner):
        os.kill(int(owner["pid"]), signal.SIGTERM)
