"""The tidy table of runs, from the store's files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.results import RunRow, RunState
from sweeps.errors import FailureError
from sweeps.evaluation import length_controlled
from sweeps.metrics import METRICS
from sweeps.resolve import Evaluation, PlannedRun
from sweeps.stages import history_lines, load_history
from sweeps.store import read_json
from sweeps.sweep import Sweep

HELDOUT = ("reward_margin", "reward_accuracy", "chosen_logps", "rejected_logps")
KL_ESTIMATES = [
    f"{name}{unit}{error}" for name in ("kl", "kl_k3") for unit in ("", "_per_token") for error in ("", "_se")
]
JUDGED = [
    f"{name}{error}"
    for name in ("win_rate", "length_controlled_win_rate", "lc_minus_wr")
    for error in ("", "_se")
]


def run_rows(sweep: Sweep, evaluation: Evaluation | None = None) -> list[RunRow]:
    """Every planned run, in the order of the plan; under another evaluation of the same responses, if one is given."""
    evaluation = evaluation or sweep.job.evaluation
    joint = joint_scores(sweep, evaluation) if evaluation.lc_method == "joint_difficulty" else {}
    return [run_row(sweep, run, evaluation, joint.get(run.run_id, {})) for run in sweep.job.runs]


def run_row(
    sweep: Sweep,
    run: PlannedRun,
    evaluation: Evaluation | None = None,
    more_scores: Mapping[str, Any] | None = None,
) -> RunRow:
    """One line of the table; `more_scores` are those that only the whole sweep gives."""
    eval_id = (evaluation or sweep.job.evaluation).eval_id
    folder = sweep.store.run(run.run_id)
    state: str = folder.state(eval_id)
    done = folder.stages_done(eval_id)
    values: dict[str, float | None] = dict.fromkeys(metric.name for metric in METRICS)
    flags: list[str] = []
    wall = None
    if "train" in done:
        metrics = read_json(folder.metrics)
        for name in HELDOUT:
            values[name] = metrics.get(f"heldout_{name}")
        history = load_history(folder)
        if len(history) != metrics["steps"] or None in history_lines(folder):
            raise FailureError(
                f"{folder.history} is damaged ({len(history)} of {metrics['steps']} steps); "
                "delete it and the run trains again"
            )
        ratios = [step["log_gradient_ratio"] for step in history if "log_gradient_ratio" in step]
        values["log_gradient_ratio"] = sum(ratios) / len(ratios) if ratios else None
        wall = metrics["wall_seconds"]
    if state == "done":
        generation = read_json(folder.generation(eval_id) / "generation.json")
        scores = {**read_json(folder.evaluation(eval_id) / "scores.json"), **(more_scores or {})}
        values |= {name: generation.get(name) for name in KL_ESTIMATES}
        values["mean_length"] = scores["mean_length"]
        wall = (wall or 0.0) + generation["wall_seconds"]
        flags = [flag["message"] for flag in scores.get("integrity", {}).get("flags", [])]
        if quarantine_reasons(scores):
            state = "quarantined"
        else:
            values |= {name: scores.get(name) for name in JUDGED}
    return RunRow(
        run_id=run.run_id,
        arm=run.arm,
        setting=run.setting,
        hyperparameters=run.hyperparameters,
        seed=run.seed,
        state=_shown_state(state),
        metrics=values,
        wall_seconds=wall,
        flags=flags,
    )


def quarantine_reasons(scores: Mapping[str, Any]) -> list[str]:
    """Why an evaluation must not count; empty when it does."""
    flags = scores.get("integrity", {}).get("flags", [])
    return [flag["message"] for flag in flags if flag["severity"] == "quarantine"]


def joint_scores(sweep: Sweep, evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Run id -> LC by difficulties fitted from all runs of the sweep that count, and its integrity."""
    from analysis import joint_difficulty
    from analysis.integrity import check_integrity

    annotations: dict[str, list[dict[str, Any]]] = {}
    scores: dict[str, dict[str, Any]] = {}
    for run in sweep.job.runs:
        folder = sweep.store.run(run.run_id)
        if folder.state(evaluation.eval_id) == "done":
            target = folder.evaluation(evaluation.eval_id)
            scores[run.run_id] = read_json(target / "scores.json")
            if not quarantine_reasons(scores[run.run_id]):
                annotations[run.run_id] = read_json(target / "annotations.json")
    if len(annotations) < 2:
        return {}
    calibration = joint_difficulty(annotations.values())
    found: dict[str, dict[str, Any]] = {}
    for run_id, rows in annotations.items():
        found[run_id] = length_controlled(rows, calibration)
        lc, method = found[run_id]["length_controlled_win_rate"], found[run_id]["lc_method"]
        gate = check_integrity(rows, lc=lc, wr=scores[run_id]["win_rate"], lc_method=method)
        found[run_id]["integrity"] = {**gate.model_dump(mode="json"), "quarantined": gate.quarantined}
    return found


def _shown_state(state: str) -> RunState:
    # "unknown": the owner is silent but may still work
    return "running" if state == "unknown" else state  # type: ignore[return-value]
