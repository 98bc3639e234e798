"""Everything that is known about one run, in plain words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adadpo.errors import UserError
from analysis.results.values import State
from sweeps.config.launch import Slurm
from sweeps.execution.progress import label, minutes
from sweeps.failures.attempts import attempts, count
from sweeps.failures.causes import POLICIES, Cause, retries_of
from sweeps.operations.status import retry_command
from sweeps.state.run_table import find_runs
from sweeps.state.sweep import Sweep
from sweeps.store.job import PlannedRun
from sweeps.store.layout import STAGES, RunFolder, read_json
from sweeps.store.manifests import stage_times


def explain(sweep: Sweep, run: PlannedRun) -> dict[str, Any]:
    """State, owner, stages, failure with evidence, attempts, what happens next, files: as plain data."""
    folder, state = sweep.store.run(run.run_id), str(sweep.state(run))
    reasons: list[str] = []
    if state == State.DONE:
        from sweeps.evaluation.judge_and_score import quarantine_reasons

        reasons = quarantine_reasons(read_json(folder.evaluation(sweep.eval_id) / "scores.json", dict))
        state = "quarantined" if reasons else state
    failure = folder.failed(sweep.eval_id) if state in (State.FAILED, State.DIVERGED) else None
    return {
        "run": run.run_id,
        "label": label(run),
        "sweep": sweep.spec.name,
        "state": state,
        "since": _since(sweep, run, folder, state, failure),
        "owner": folder.lease.read(),
        "stages": _stages(folder, sweep.eval_id),
        "failure": failure,
        "quarantined": reasons,
        "attempts": attempts(folder),
        "next": list(_next(sweep, run, folder, state, failure)),
        "files": {
            "folder": str(folder.path),
            "log": str(folder.log),
            "evaluation": str(folder.evaluation(sweep.eval_id)),
        },
    }


def _since(
    sweep: Sweep, run: PlannedRun, folder: RunFolder, state: str, failure: dict[str, Any] | None
) -> float | None:
    """Seconds of the epoch; None where no file tells it."""
    if failure is not None:
        return failure.get("time")
    if state in (State.RUNNING, State.UNKNOWN):
        return (folder.lease.read() or {}).get("taken")
    if state == State.CANCELLED:
        return _modified(sweep.control.marker(run.run_id))
    if state in (State.DONE, State.QUARANTINED):
        return _modified(folder.last_file("score", sweep.eval_id))
    return sweep.control.launched().get("time")


def _modified(path: Path) -> float | None:
    return path.stat().st_mtime if path.exists() else None


def _stages(folder: RunFolder, eval_id: str) -> list[dict[str, Any]]:
    done, times = folder.stages_done(eval_id), stage_times(folder, eval_id)
    return [{"stage": stage, "done": stage in done, **times.get(stage, {})} for stage in STAGES]


def _next(
    sweep: Sweep, run: PlannedRun, folder: RunFolder, state: str, failure: dict[str, Any] | None
) -> Iterator[str]:
    name, short = sweep.spec.name, run.run_id[:8]
    if state == State.WAITING:
        if stopped := sweep.control.stopped():
            yield f"The launch was stopped ({stopped['cause']}): {stopped['message']}"
        yield from _ended(sweep, run)
        yield f"Not started: no worker is assigned. Unless one is queued: adadpo launch {name}"
        if folder.weights_freed:
            yield "Its weights were freed by adadpo gc, and an evaluation needs them: it is retrained."
    elif state == State.RUNNING:
        yield f"Nothing to do: adadpo logs {name} {short} -f follows it, adadpo cancel {name} {short} takes it back."
    elif state == State.UNKNOWN:
        yield "Its owner is silent, on another machine; it may still work, so no other worker takes over."
        yield f"If that machine is gone for good: adadpo retry {name} {short}"
    elif state == State.CANCELLED:
        yield f"No launch runs it until it is asked for again: adadpo retry {name} {short}"
    elif state == State.QUARANTINED:
        yield "It is shown and not counted, see the reasons; after repairing the judge: adadpo judge " + name
    elif state == State.DONE:
        yield "Nothing: it counts in the report."
    if failure is not None:
        yield from _after(sweep, run, folder, failure)


def _ended(sweep: Sweep, run: PlannedRun) -> Iterator[str]:
    """How the job on Slurm ended that was to do it, if no other one is going to."""
    if not isinstance(sweep.spec.launch, Slurm):
        return
    from sweeps.dispatch.job_outcomes import ended_jobs, without_job

    if run.run_id in {each.run_id for each in without_job(sweep)}:
        for ended in ended_jobs(sweep, [run.run_id]):
            yield f"{str(ended)[0].upper()}{str(ended)[1:]}."


def _after(sweep: Sweep, run: PlannedRun, folder: RunFolder, failure: dict[str, Any]) -> Iterator[str]:
    cause: Cause = failure["kind"]
    policy = POLICIES.get(cause)
    if policy is not None:
        allowed, ended = retries_of(cause, sweep.job.retries), count(folder, cause)
        yield f"Policy: {allowed} automatic retries for this cause; it ended so {max(1, ended)} times."
        yield f"Advice: {policy.advice}."
    if cause == "out of memory":
        yield from smaller_batch(run)
    yield f"Then: {retry_command(sweep.spec.name, cause).partition(' --')[0]} {run.run_id[:8]}"


def smaller_batch(run: PlannedRun) -> Iterator[str]:
    """The settings that need less memory and give the same effective batch."""
    train = run.config.train
    micro = train.micro_batch_size or train.batch_size
    if micro > 1:
        half = next(size for size in range(micro // 2, 0, -1) if train.batch_size % size == 0)
        yield (
            f"train: {{micro_batch_size: {half}}} instead of {micro} keeps the effective batch of {train.batch_size} "
            "pairs; it holds for every run of the sweep."
        )
    elif not train.gradient_checkpointing:
        yield "The micro batch is one pair already: train: {gradient_checkpointing: true} trades time for memory."
    else:
        yield f"One pair at a time with gradient checkpointing is too much: shorten max_length {train.max_length}."


def why_lines(found: dict[str, Any], now: float | None = None) -> list[str]:
    """`explain` for people."""
    now = time.time() if now is None else now
    since = (
        "" if found["since"] is None else f" since {_clock(found['since'])} ({minutes(now - found['since'])})"
    )
    lines = [f"{found['run']}  {found['label']}  in {found['sweep']}", f"{found['state']}{since}"]
    owner = found["owner"]
    if owner and found["state"] in ("running", "unknown"):
        job = f", Slurm job {owner['slurm_job_id']}" if owner.get("slurm_job_id") else ""
        other = owner.get("sweep")
        of = f", for the sweep {other}" if other not in (None, found["sweep"]) else ""
        silent = minutes(max(0.0, now - owner.get("refreshed", now)))
        lines.append(
            f"held by process {owner.get('pid')} on {owner.get('host')}{job}{of}; last heard {silent} ago"
        )
        if progress := owner.get("progress"):
            lines.append(f"at {progress['stage']} {progress['done']}/{progress['total']}")
    lines.append("stages: " + ", ".join(_stage(each) for each in found["stages"]))
    if failure := found["failure"]:
        step = f" at step {failure['step']}" if failure.get("step") else ""
        lines.append(f"cause: {failure['kind']} in {failure['stage']}{step}: {failure['message']}")
        if policy := POLICIES.get(failure["kind"]):
            lines.append(f"  which means: {policy.meaning}")
        where = [f"{key} {failure[key]}" for key in ("host", "slurm_job_id") if failure.get(key)]
        lines += [f"  on {', '.join(where)}"] if where else []
        lines += ["  " + line for line in str(failure.get("traceback") or "").splitlines()[-8:]]
    lines += [f"quarantined: {reason}" for reason in found["quarantined"]]
    earlier = [each for each in found["attempts"] if each["cause"] is not None]
    if earlier:
        lines.append(f"attempts that came to nothing: {len(earlier)}")
        for each in earlier[-3:]:
            took = "" if each.get("seconds") is None else f" after {minutes(each['seconds'])}"
            lines.append(
                f"  {_clock(each['time'])} {each['cause']} in {each.get('stage')}{took}: {each.get('evidence')}"
            )
    lines += ["next:", *(f"  {line}" for line in found["next"])]
    lines += ["files:", *(f"  {name:10} {path}" for name, path in found["files"].items())]
    return lines


def _stage(each: dict[str, Any]) -> str:
    if not each["done"]:
        return f"{each['stage']} not done"
    return f"{each['stage']} done" + (f" in {minutes(each['seconds'])}" if "seconds" in each else "")


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def require_one(sweep: Sweep, words: list[str], verb: str) -> PlannedRun:
    """The run that words mean, for verbs about a single one.

    Raises:
        UserError: none or several.
    """
    found = find_runs(sweep, words)
    if len(found) > 1:
        ids = ", ".join(f"{run.run_id[:8]} ({label(run)})" for run in found[:4])
        raise UserError(f"{verb} is about one run, {len(found)} fit {' '.join(words)!r}: {ids}, ...")
    return found[0]
