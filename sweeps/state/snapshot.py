"""One look at all runs of a sweep: their states, and what the finished ones came to.

Reading ten thousand finished runs takes seconds; looking whether their files are as they were does not. So what was
read is kept in the sweep's folder (`seen/<judgement>.json`), each run with the times and sizes of what it was read
from. Files are the truth: an entry that does not fit them is read anew, and what is kept may be deleted at any time.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adadpo.errors import FailureError
from adadpo.files import atomic_write
from analysis.results.values import State
from sweeps.failures.attempts import attempts
from sweeps.state.sweep import Sweep
from sweeps.store.job import Evaluation
from sweeps.store.layout import RunFolder, parse_json, read_json
from sweeps.store.manifests import is_of_other_weights, read_history, stage_times

VERSION = 2  # of what is kept; raise it when `read_run` reads something else
# A file may be written again within one tick of its file system's clock: what is this young is not kept.
TICK_NS = 2_000_000_000

SCORED = ("prompts", "mean_length", "win_rate", "length_controlled_win_rate", "lc_method")
HELDOUT = ("reward_margin", "reward_accuracy", "chosen_logps", "rejected_logps")
KL_ESTIMATES = [
    f"{name}{unit}{error}" for name in ("kl", "kl_k3") for unit in ("", "_per_token") for error in ("", "_se")
]

Finished = Mapping[str, Any]
"""Of a run that is done: scores, and what `measured`, `spent` and `is_of_other_weights` say."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a look at the files of every run of a sweep found."""

    states: dict[str, State]
    finished: dict[str, Finished]  # of the runs that are done


def take_snapshot(sweep: Sweep, evaluation: Evaluation | None = None) -> Snapshot:
    """The files of all runs as they are now.

    Args:
        sweep: whose runs.
        evaluation: another one of the same responses; None: the sweep's own.

    Raises:
        FailureError: a finished run's files cannot be read.
    """
    eval_id = (evaluation or sweep.job.evaluation).eval_id
    path = snapshot_path(sweep, eval_id)
    kept = _kept(path, eval_id)
    present, cancelled_ids = sweep.store.present(), sweep.control.cancelled_ids()
    states: dict[str, State] = {}
    finished: dict[str, Finished] = {}
    new = 0
    for run in sweep.job.runs:
        run_id = run.run_id
        state = State.WAITING
        if run_id in present:
            folder = sweep.store.run(run_id)
            files = _files(str(folder.path), eval_id)
            entry = kept.get(run_id)
            if entry is None or files is None or entry["files"] != files:
                entry, state = None, folder.state(eval_id)
                if state == State.DONE:
                    young = files is None or max(files) > time.time_ns() - TICK_NS
                    entry = {"files": None if young else files, **read_run(folder, eval_id)}
                    new += 1
            if entry is not None:
                state, finished[run_id] = State.DONE, entry
        states[run_id] = sweep.effective_state(run, state, cancelled_ids)
    # A run that has just ended in a sweep of thousands is not worth writing all of them.
    if new > len(finished) // 100 and (sweep.folder / "spec.yaml").exists():
        content = {"version": VERSION, "evaluation": eval_id, "runs": finished}
        with suppress(FailureError):  # whoever may only read the store reads the runs each time
            atomic_write(path, json.dumps(content) + "\n")
    return Snapshot(states, finished)


def snapshot_path(sweep: Sweep, eval_id: str) -> Path:
    """Where what was read is kept."""
    return sweep.folder / "seen" / f"{eval_id.partition('/')[2]}.json"


def stale_entries(sweep: Sweep) -> list[str]:
    """Runs of which something is kept that fits the times of their files and not their content; reads them all.

    Raises:
        FailureError: a finished run's files cannot be read.
    """
    kept = _kept(snapshot_path(sweep, sweep.eval_id), sweep.eval_id)
    wrong = []
    for run in sweep.job.runs:
        folder, entry = sweep.store.run(run.run_id), kept.get(run.run_id)
        files = _files(str(folder.path), sweep.eval_id)
        if entry is not None and files is not None and entry["files"] == files:
            expected = {"files": files, **read_run(folder, sweep.eval_id)}
            if entry != expected:
                wrong.append(run.run_id)
    return wrong


def _kept(path: Path, eval_id: str) -> dict[str, Any]:
    """Run id -> what was kept of it; empty where nothing is, or it is of something else or damaged."""
    with suppress(OSError, ValueError, RecursionError, KeyError, TypeError):
        content = parse_json(path.read_bytes())
        if content["version"] == VERSION and content["evaluation"] == eval_id:
            return dict(content["runs"])
    return {}


def _files(run: str, eval_id: str) -> list[int] | None:
    """Times and sizes of what `read_run` reads, and times of the folders: files that came and went; None: some lack."""
    generation = f"{run}/eval/{eval_id.partition('/')[0]}"
    judgement = f"{run}/eval/{eval_id}"
    found: list[int] = []
    try:
        for path in (run, f"{run}/train", generation, judgement):
            found.append(os.stat(path).st_mtime_ns)  # noqa: PTH116 -- of every run of a sweep
        for path in (
            f"{run}/train/metrics.json",
            f"{run}/train/history.jsonl",
            f"{generation}/generation.json",
            f"{judgement}/scores.json",
        ):
            of = os.stat(path)  # noqa: PTH116
            found += (of.st_mtime_ns, of.st_size)
    except OSError:
        return None
    return found


def read_run(folder: RunFolder, eval_id: str) -> dict[str, Any]:
    """What a finished run came to, from its files.

    Raises:
        FailureError: one of them cannot be read.
    """
    scores = read_json(folder.evaluation(eval_id) / "scores.json", dict, SCORED)
    return {
        "scores": scores,
        **measured(folder, eval_id),
        "spent": spent(folder, eval_id),
        "other_weights": is_of_other_weights(folder, eval_id),
    }


def measured(folder: RunFolder, eval_id: str) -> dict[str, Any]:
    """`values`: metrics that are no scores, of the stages that are done; `wall_seconds` of those stages, None: none.

    Raises:
        FailureError: a stage's file cannot be read, or the history lacks steps.
    """
    values: dict[str, float | None] = {}
    wall: float | None = None
    if folder.has("train", eval_id):
        metrics = read_json(folder.metrics, dict, ("steps", "wall_seconds"))
        values |= {name: metrics.get(f"heldout_{name}") for name in HELDOUT}
        steps, is_whole = read_history(folder)
        if len(steps) != metrics["steps"] or not is_whole:
            raise FailureError(
                f"{folder.history} is damaged ({len(steps)} of {metrics['steps']} steps); "
                "delete it and the run trains again"
            )
        ratios = [step["log_gradient_ratio"] for step in steps if "log_gradient_ratio" in step]
        values["log_gradient_ratio"] = sum(ratios) / len(ratios) if ratios else None
        wall = metrics["wall_seconds"]
    if folder.done(eval_id):
        generation = read_json(folder.generation(eval_id) / "generation.json", dict, ("wall_seconds",))
        values |= {name: generation.get(name) for name in KL_ESTIMATES}
        wall = (wall or 0.0) + generation["wall_seconds"]
    return {"values": values, "wall_seconds": wall}


def spent(folder: RunFolder, eval_id: str) -> dict[str, Any]:
    """`stages`: of `stage_times`; `gpus` of the training; `attempts` that ended without a result."""
    return {
        "stages": stage_times(folder, eval_id),
        "gpus": _gpus(folder),
        "attempts": [
            {"seconds": line["seconds"], "gpus": line.get("gpus")}
            for line in attempts(folder)
            if isinstance(line.get("seconds"), int | float)
        ],
    }


def _gpus(folder: RunFolder) -> int:
    """Of a run's training as its provenance says; 0 where there is none to read."""
    path = folder.path / "provenance.json"
    try:
        device = str(read_json(path).get("device", "CPU")) if path.exists() else "CPU"
    except (FailureError, AttributeError):
        return 0
    return 0 if device.startswith("CPU") else 1
