"""Where a sweep stands, from its files and its queue."""

from __future__ import annotations

import codecs
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adadpo.errors import FailureError
from analysis.results.values import State
from sweeps.config.launch import Slurm
from sweeps.evaluation.judge_and_score import quarantine_reasons
from sweeps.execution.progress import label
from sweeps.failures.causes import POLICIES, normalised
from sweeps.operations.on_finish import on_finish_problem
from sweeps.search.loop import search_lines
from sweeps.state.run_table import run_rows, run_scores
from sweeps.state.snapshot import take_snapshot
from sweeps.state.sweep import Sweep
from sweeps.state.timing import measured_seconds, progress_of, spent_by_runs, used_hours
from sweeps.store.job import PlannedRun
from sweeps.store.lease import holder_state


def make_status(sweep: Sweep, chosen: Sequence[PlannedRun] | None = None) -> dict[str, Any]:
    """Counts, progress, failures by cause and cells as plain data.

    Args:
        sweep: whose.
        chosen: only these runs; None: all of them.
    """
    runs = sweep.job.runs if chosen is None else list(chosen)
    shown = {run.run_id for run in runs}
    snapshot = take_snapshot(sweep)
    states = {run_id: state for run_id, state in snapshot.states.items() if run_id in shown}
    working, failures, quarantined = [], [], []
    scores = run_scores(sweep, snapshot=snapshot)
    rows = {
        row.run_id: row for row in run_rows(sweep, scores=scores, snapshot=snapshot) if row.run_id in shown
    }
    for run in runs:
        state = states[run.run_id]
        if rows[run.run_id].state in (State.DONE, State.WAITING):
            continue
        folder = sweep.store.run(run.run_id)
        named = {"run": run.run_id, "label": label(run), "state": state}
        if state in (State.RUNNING, State.UNKNOWN):
            owner = folder.lease.read() or {}
            about = {
                name: owner.get(name) for name in ("host", "slurm_job_id", "taken", "refreshed", "progress")
            }
            working.append(named | about)
        elif state in (State.FAILED, State.DIVERGED):
            failure = folder.failed(sweep.eval_id) or {}
            failures.append(named | {key: value for key, value in failure.items() if key != "traceback"})
        elif rows[run.run_id].state == State.QUARANTINED:
            reasons = quarantine_reasons(scores[run.run_id])
            quarantined.append({"run": run.run_id, "label": label(run), "reasons": reasons})
    counts: Counter[str] = Counter(states.values())
    counts[State.QUARANTINED] = len(quarantined)
    counts[State.DONE] -= len(quarantined)
    queued, queue_problem, finishes = _queued(sweep)
    stalled = bool(counts[State.WAITING]) and not counts[State.RUNNING] and not queued and not queue_problem
    spent = spent_by_runs(sweep, snapshot)
    return {
        "sweep": sweep.spec.name,
        "folder": str(sweep.folder),
        "runs": len(states),
        "seeds": sweep.seeds,
        "counts": {state: count for state, count in counts.items() if count},
        "queued": None if queued is None else len(queued & shown),
        "queue_problem": queue_problem,
        "search": search_lines(sweep),
        "progress": progress_of(sweep, snapshot.states, measured_seconds(spent)),
        "used": used_hours(sweep, spent),
        "working": working,
        "failures": failures,
        "causes": _by_cause(sweep.spec.name, failures),
        "stopped": sweep.control.stopped(),
        "stalled": stalled,
        "ended": _ended(sweep, [run_id for run_id, state in states.items() if state == State.WAITING])
        if stalled
        else [],
        "report_missing": not (finishes or queued or queue_problem or stalled or counts[State.RUNNING])
        and _report_is_missing(sweep, snapshot.states),
        "on_finish": on_finish_problem(sweep),
        "quarantined": quarantined,
        "metric": sweep.spec.compare.primary,
        "cells": _cells(sweep, rows),
    }


def _queued(sweep: Sweep) -> tuple[set[str] | None, str | None, bool]:
    """The runs that Slurm has, why nobody knows, and whether a job is to write the report; None: no Slurm."""
    if not isinstance(sweep.spec.launch, Slurm):
        return None, None, False
    from sweeps.dispatch.submission import queue_of, states_in_queue

    try:
        queue = queue_of(sweep)
    except FailureError as error:
        return set(), str(error), False
    return set(states_in_queue(queue)), None, any(not queued.stages for queued in queue)


def _ended(sweep: Sweep, run_ids: Sequence[str]) -> list[str]:
    """How the jobs ended that were to do runs which wait; nothing where they never were to be a job's."""
    if not isinstance(sweep.spec.launch, Slurm):
        return []
    from sweeps.dispatch.job_outcomes import ended_jobs

    return [str(ended) for ended in ended_jobs(sweep, run_ids)]


def _report_is_missing(sweep: Sweep, states: Mapping[str, str]) -> bool:
    """Some run has ended on Slurm since the report was written: the job that was to write it is gone."""
    if not isinstance(sweep.spec.launch, Slurm):
        return False
    results = sweep.folder / "results.json"
    written = results.stat().st_mtime_ns if results.exists() else 0
    for run_id, state in states.items():
        folder = sweep.store.run(run_id)
        if state == State.DONE:
            last = folder.last_file("score", sweep.eval_id)
        elif state in (State.FAILED, State.DIVERGED):
            last = folder.failure
        else:
            continue
        if last.exists() and last.stat().st_mtime_ns > written:
            return True
    return False


def _by_cause(sweep: str, failures: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Failures that are alike, the most frequent first, with what to do about them."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for failure in failures:
        key = (failure["kind"], failure["stage"], failure.get("signature") or normalised(failure["message"]))
        groups.setdefault(key, []).append(failure)
    found = []
    for (cause, stage, _), alike in sorted(groups.items(), key=lambda item: -len(item[1])):
        policy = POLICIES.get(cause)  # type: ignore[call-overload]
        found.append(
            {
                "cause": cause,
                "stage": stage,
                "runs": [failure["run"] for failure in alike],
                "message": alike[0]["message"],
                "meaning": policy.meaning if policy else None,
                "advice": policy.advice if policy else None,
                "look": f"adadpo why {sweep} {alike[0]['run'][:8]}",
                "next": retry_command(sweep, cause),
            }
        )
    return found


def retry_command(sweep: str, cause: str) -> str:
    """What tries the runs of a cause again."""
    named = "oom" if cause == "out of memory" else cause
    return f"adadpo retry {sweep} --cause {named}"


def _cells(sweep: Sweep, rows: dict[str, Any]) -> list[dict[str, Any]]:
    from analysis.results.table import mean, sd

    values: dict[tuple[str, str], list[float]] = {}
    for row in rows.values():
        if row.state == State.DONE and (value := row.metrics[sweep.spec.compare.primary]) is not None:
            values.setdefault((row.setting, row.arm), []).append(value)
    return [
        {"setting": setting, "arm": arm, "n": len(found), "mean": mean(found), "sd": sd(found)}
        for (setting, arm), found in values.items()
    ]


# Following a run's log until the run ends.

POLL_SECONDS = 0.3
OVER = (State.DONE, State.DIVERGED, State.FAILED, State.CANCELLED, State.PRUNED)


def follow_log(sweep: Sweep, run: PlannedRun) -> Iterator[str]:
    """Pieces of the log as they are written, from the beginning; ends when the run has, whatever it ended in.

    A log that was deleted and begun again is followed from its new beginning.
    """
    file, place = sweep.store.run(run.run_id).log, 0
    decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a piece may end within a character
    while True:
        # Before reading: what is written until then is read below. The last lines come after the last file.
        over = sweep.state(run) in OVER and holder_state(sweep.store.run(run.run_id).lease) != "alive"
        if file.exists():
            if file.stat().st_size < place:
                place = 0
            with file.open("rb") as stream:
                stream.seek(place)
                content = stream.read()
            place += len(content)
            if text := decoder.decode(content):
                yield text
        if over:
            return
        time.sleep(POLL_SECONDS)
