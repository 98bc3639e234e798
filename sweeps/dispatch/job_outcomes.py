"""Runs whose jobs on Slurm are gone without their result: the last job notes attempts, and may submit them again."""

from __future__ import annotations

import re
import time
from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adadpo.errors import FailureError, SweepError
from analysis.results.values import State
from sweeps.dispatch.submission import (
    FINISH,
    Submission,
    queue_of,
    read_submission,
    states_in_queue,
    submissions,
)
from sweeps.failures.attempts import note_end, note_loss
from sweeps.failures.causes import SLURM_STATES, Cause, array_ends
from sweeps.state.sweep import Sweep
from sweeps.store.job import PlannedRun
from sweeps.store.layout import STAGES, RunFolder, read_json, write_json
from sweeps.store.lease import QUIET_SECONDS, held
from sweeps.store.slurm_queue import slurm_jobs

# How jobs on Slurm ended whose runs are still to be done: by what the worker left, else by Slurm's word.

OWN_CODES = range(1, 128)  # of a program that ended by itself; above them a shell's word for a signal


@dataclass(frozen=True)
class Ended:
    """A job that Slurm has no more, with runs that have neither a result nor a failure.

    Attributes:
        label: as users name the job: `17_3`; None: its launcher was killed before it noted the number.
        runs: ids of its runs, all of them.
        stages: that it was to do.
        submitted: when, in nanoseconds, by the clock of the store's file system.
        told: the error with which its worker left all of its runs.
        state: in Slurm's word; None: nobody knows.
        code: exit code and signal as Slurm says them, `1:0`.
        logs: the folder of its output.
    """

    label: str | None
    runs: list[str]
    stages: list[str]
    submitted: int
    told: str | None
    state: str | None
    code: str
    logs: Path

    @property
    def cause(self) -> Cause | None:
        """Why it ended before it did its runs; None: it said so, or a person cancelled it."""
        if self.told is not None or self.state == "CANCELLED":
            return None
        if self.state in SLURM_STATES:
            return SLURM_STATES[self.state]
        code, _, number = self.code.partition(":")
        if self.state == "FAILED" and code.isdigit() and int(code) in OWN_CODES and number == "0":
            return "bug"
        return "node"

    def __str__(self) -> str:
        job = f"job {self.label}" if self.label else "its job"
        where = f"(output: {self.logs}{f'/{self.label}_*' if self.label else ''})"
        if self.told is not None:
            return f"{job} ended: {self.told} {where}"
        if self.state is None:
            return f"{job} is gone, and Slurm does not know how it ended {where}"
        code = f", exit code {self.code}" if self.state == "FAILED" else ""
        return f"Slurm: {job} ended as {self.state}{code} {where}"


def ended_jobs(sweep: Sweep, run_ids: Container[str]) -> list[Ended]:
    """The jobs that were to do the next stage of some runs, and did not.

    Args:
        sweep: whose.
        run_ids: of runs that no job has any more.

    Raises:
        FailureError: what was submitted cannot be read.
    """
    found: dict[str, tuple[Path, Submission, str, int]] = {}  # by the last submission that has the run
    for folder in submissions(sweep):
        submission = read_submission(folder)
        for part, content in submission.parts.items():
            for number, element in enumerate(content.elements):
                for run_id in element:
                    missing = (
                        _next_stage(sweep.store.run(run_id), sweep.eval_id) if run_id in run_ids else None
                    )
                    if missing in content.stages:
                        found[run_id] = (folder, submission, part, number)
    ends: dict[str, dict[int, tuple[str, str]]] = {}
    jobs = {(place[0], place[2], place[3]): place[1] for place in found.values()}
    return [
        _ended(folder, submission, part, number, ends) for (folder, part, number), submission in jobs.items()
    ]


def note_ended(folder: Path, part: str, element: int, message: str | None) -> None:
    """By a worker: it leaves all of its job's runs with an error that is none of theirs; None: it begins."""
    path = _note(folder, part, element)
    if message is None:
        path.unlink(missing_ok=True)
        return
    with suppress(SweepError):  # a full disk: then Slurm's word has to do
        write_json(path, {"message": message})


def got_somewhere(folder: RunFolder, eval_id: str, since: int) -> bool:
    """Something of a run was done, or its failure or an attempt was noted, since a time (as `Ended.submitted`)."""
    files = [folder.attempts, folder.failure, folder.training / folder.history.name]
    files += [folder.last_file(stage, eval_id) for stage in STAGES]
    files += folder.path.glob("eval/*/partial.jsonl")
    return any(path.exists() and path.stat().st_mtime_ns >= since for path in files)


def _next_stage(folder: RunFolder, eval_id: str) -> str | None:
    return next((stage for stage in STAGES if not folder.has(stage, eval_id)), None)


def _note(folder: Path, part: str, element: int) -> Path:
    return folder / "ended" / f"{part}-{element}.json"


def _ended(
    folder: Path,
    submission: Submission,
    part: str,
    number: int,
    ends: dict[str, dict[int, tuple[str, str]]],
) -> Ended:
    note, content = _note(folder, part, number), submission.parts[part]
    told: Any = read_json(note)["message"] if note.exists() else None
    array, index = _array(folder, part, number)
    if array is not None and array not in ends:
        ends[array] = array_ends(array)
    state, code = ends[array].get(index, (None, "")) if array is not None else (None, "")
    return Ended(
        label=None if array is None else f"{array}_{index}",
        runs=content.elements[number],
        stages=content.stages,
        submitted=(folder / "work.json").stat().st_mtime_ns,
        told=told,
        state=state,
        code=code,
        logs=folder / "logs",
    )


def _array(folder: Path, part: str, number: int) -> tuple[str | None, int]:
    """Job id of the array that has an element of a part, and the element's index in it."""
    ids: dict[str, str] = {}
    with suppress(FailureError):
        ids = read_json(folder / "submitted.json")
    starts = [int(found[1]) for name in ids if (found := re.fullmatch(rf"{re.escape(part)}-(\d+)", name))]
    first = max((start for start in starts if start <= number), default=None)
    return (None, number) if first is None or part == FINISH else (ids[f"{part}-{first}"], number - first)


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
    return [run for run in sweep.select(State.WAITING) if run.run_id not in queued]


def _note_unbegun(sweep: Sweep, ended: Ended, runs: list[PlannedRun]) -> None:
    """An attempt of each run of a job that ended before it took one of them."""
    assert ended.cause is not None
    for run in runs:
        folder = sweep.store.run(run.run_id)
        stage = next(stage for stage in STAGES if not folder.has(stage, sweep.eval_id))
        with held(folder.lease) as lease:
            if lease is not None and folder.outcome(sweep.eval_id) == State.WAITING:
                said = f"before the run was begun, {ended}"
                note_end(folder, ended.cause, said, sweep.job.retries, stage, slurm_job_id=ended.label)


def _is_of_a_gone_job(owner: dict[str, object]) -> bool:
    if owner.get("slurm_job_id") is None:
        return False
    try:
        return owner["slurm_job_id"] not in {job.job_id for job in slurm_jobs()}
    except FailureError:
        return False
