"""How long a sweep has taken and will take, from the times of the stages that are done."""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median
from typing import Any

from analysis.results.values import State
from sweeps.config.launch import Local, Slurm
from sweeps.state.snapshot import Snapshot, spent
from sweeps.state.sweep import Sweep
from sweeps.store.job import PlannedRun
from sweeps.store.layout import STAGES

# Where nothing is measured yet: what the stages of a run cost as shares, measured on the quickstart.
SHARES = {"train": 0.55, "generate": 0.45, "judge": 0.0, "score": 0.0}
# What is reported on the way: the stage it belongs to, where in it it begins, and how much of it it is.
REPORTED = {
    "train": ("train", 0.0, 1.0),
    "baseline": ("generate", 0.0, 0.0),
    "generate": ("generate", 0.0, 0.78),
    "KL": ("generate", 0.78, 0.22),
    "judge": ("judge", 0.0, 1.0),
}
OVER = (State.DONE, State.DIVERGED, State.FAILED, State.CANCELLED, State.PRUNED)


def spent_by_runs(sweep: Sweep, snapshot: Snapshot) -> dict[str, Mapping[str, Any]]:
    """Run id -> what `snapshot.spent` says of it; of runs that have begun.

    Args:
        sweep: whose.
        snapshot: of `take_snapshot`.
    """
    present = sweep.store.present()
    return {
        run.run_id: snapshot.finished[run.run_id]["spent"]
        if run.run_id in snapshot.finished
        else spent(sweep.store.run(run.run_id), sweep.eval_id)
        for run in sweep.job.runs
        if run.run_id in present
    }


def measured_seconds(found: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Stage -> median seconds of `spent_by_runs`; stages that none has done are not there."""
    times: dict[str, list[float]] = {}
    for one in found.values():
        for stage, each in one["stages"].items():
            times.setdefault(stage, []).append(each["seconds"])
    return {stage: median(found) for stage, found in times.items()}


def progress_of(sweep: Sweep, states: Mapping[str, State], measured: Mapping[str, float]) -> dict[str, Any]:
    """How far the sweep is, and the time left at the present pace.

    Args:
        sweep: whose.
        states: run id -> state.
        measured: of `measured_seconds`.

    Returns:
        share: of the work, 0 to 1; seconds_left: None where it is not known, with the reason; at_a_time: runs.
    """
    cost = {**SHARES, **measured} if measured.keys() >= {"train", "generate"} else SHARES
    each, left = sum(cost.values()), 0.0
    for run in sweep.job.runs:
        if states[run.run_id] not in OVER:
            left += _left(sweep, run, cost)
    total = each * len(sweep.job.runs)
    running = sum(state == State.RUNNING for state in states.values())
    open_runs = sum(state not in OVER for state in states.values())
    at_a_time = min(running or declared_at_a_time(sweep), max(1, open_runs))
    known = cost is not SHARES
    return {
        "share": 1 - left / total if total else 1.0,
        "seconds_left": left / at_a_time if known else None if left else 0.0,
        "reason": None if known or not left else "not known before a run has trained and answered",
        "at_a_time": at_a_time,
        "stage_seconds": dict(measured),
    }


def _left(sweep: Sweep, run: PlannedRun, cost: Mapping[str, float]) -> float:
    folder = sweep.store.run(run.run_id)
    done = folder.stages_done(sweep.eval_id)
    left = {stage: cost[stage] for stage in STAGES if stage not in done}
    now = (folder.lease.read() or {}).get("progress") or {}
    stage, start, share = REPORTED.get(now.get("stage", ""), ("", 0.0, 0.0))
    if stage in left:
        left[stage] *= 1 - start - share * (now["done"] / now["total"] if now["total"] else 0.0)
    return sum(left.values())


def declared_at_a_time(sweep: Sweep) -> int:
    """How many runs the launch section has at once."""
    launch = sweep.spec.launch
    if isinstance(launch, Local):
        return max(launch.workers, launch.runs_per_gpu or 1)
    if isinstance(launch, Slurm):
        jobs = launch.parameters().get("array_parallelism") or len(sweep.job.runs)
        return int(jobs) * launch.runs_per_gpu
    return 1


def used_hours(sweep: Sweep, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the sweep's runs have cost: wall time x GPUs, or process-hours where there was no GPU.

    Args:
        sweep: whose.
        found: of `spent_by_runs`.

    Returns:
        unit: `GPU-hours` or `CPU process-hours`; hours; lost_hours: of them in attempts that failed or were lost; runs:
        how many have any.
    """
    parts: list[tuple[float, int, bool]] = []  # seconds, GPUs, lost
    runs = 0
    for run_id, one in found.items():
        gpus = one["gpus"]
        mine = [
            (each["seconds"], gpus if each["gpus"] is None else each["gpus"], False)
            for each in one["stages"].values()
        ]
        mine += [(line["seconds"], line["gpus"] or gpus, True) for line in one["attempts"]]
        # Who holds a finished run works for another evaluation; and to look costs as much as all else here.
        owner = None if len(one["stages"]) == len(STAGES) else sweep.store.run(run_id).lease.read()
        if owner is not None and isinstance(owner.get("taken"), float):
            mine.append(
                (max(0.0, min(time.time(), owner.get("refreshed", 0.0)) - owner["taken"]), gpus, False)
            )
        runs += bool(mine)
        parts += mine
    on_gpu = any(gpus for _, gpus, _ in parts)
    hours = [(seconds * (gpus if on_gpu else 1) / 3600, lost) for seconds, gpus, lost in parts]
    return {
        "unit": "GPU-hours" if on_gpu else "CPU process-hours",
        "hours": sum(value for value, _ in hours),
        "lost_hours": sum(value for value, lost in hours if lost),
        "runs": runs,
    }
