"""The annotations of a sweep's runs as the analysis takes them: thousands of runs at a time, so without their texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adadpo.errors import FailureError
from sweeps.evaluation.judge_and_score import (
    BOOTSTRAP_SEED,
    REPLICATES,
    calibration_of,
    length_controlled,
    quarantine_reasons,
)
from sweeps.state.sweep import Sweep
from sweeps.store.job import Evaluation
from sweeps.store.layout import read_json, write_json

if TYPE_CHECKING:
    from analysis.alpaca_eval.calibration import Calibration
    from analysis.alpaca_eval.length_control import LcData

Scores = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class JudgedRuns:
    """The runs that count, with all that their length-controlled win rates rest on."""

    data: Mapping[str, LcData]  # by run id
    calibration: Calibration | None  # None: the formula without difficulty, or `reason`
    reason: str | None  # why there is no LC, though WR is defined: prompts that the calibration does not know


def judged_runs(sweep: Sweep, evaluation: Evaluation, scores: Scores) -> JudgedRuns:
    """Annotations and calibration of the runs that count.

    Args:
        sweep: whose runs.
        evaluation: of the scores.
        scores: of `run_scores` under it.

    Raises:
        FailureError: a run's annotations cannot be read, or are damaged.
    """
    from adadpo.errors import CalibrationError
    from analysis.alpaca_eval.calibration import difficulty_of
    from analysis.alpaca_eval.difficulty import joint_difficulty

    counts = counting(scores)
    # Also of runs that were quarantined for the LC it gave them: the difficulties are those of the scores.
    shaped = [run_id for run_id, one in scores.items() if one.get("calibration")]
    is_joint = evaluation.lc_method == "joint_difficulty"
    everything = read_judged(sweep, evaluation, dict.fromkeys([*counts, *(shaped if is_joint else [])]))
    data = {run_id: everything[run_id] for run_id in counts}
    if is_joint:
        if not shaped:
            reason = next((str(one.get("reason")) for one in scores.values()), "no run has a score")
            return JudgedRuns(data, None, reason)
        return JudgedRuns(data, joint_difficulty(everything[run_id] for run_id in shaped), None)
    calibration = calibration_of(evaluation)
    if calibration is not None:
        try:
            for run in data.values():
                difficulty_of(run.instructions, calibration)
        except CalibrationError as error:
            return JudgedRuns(data, None, str(error))
    return JudgedRuns(data, calibration, None)


def counting(scores: Scores) -> dict[str, Mapping[str, Any]]:
    """Of the runs that count: judged and not quarantined."""
    return {
        run_id: one
        for run_id, one in scores.items()
        if one.get("win_rate") is not None and not quarantine_reasons(one)
    }


def read_judged(sweep: Sweep, evaluation: Evaluation, run_ids: Iterable[str]) -> dict[str, LcData]:
    """Runs' annotations without the answers' texts; runs of the same prompts share those.

    Raises:
        FailureError: a run's annotations cannot be read, or are damaged.
    """
    from adadpo.errors import AnnotationError
    from analysis.alpaca_eval.length_control import lc_data

    found: dict[str, LcData] = {}
    prompts: dict[tuple[str | None, ...], tuple[str | None, ...]] = {}
    for run_id in run_ids:
        try:
            data = lc_data(annotations_of(sweep, evaluation, run_id), None)
            data.require_instructions()
        except AnnotationError as error:
            path = annotations_file(sweep, evaluation, run_id)
            raise FailureError(f"{path} is damaged ({error}); delete it and the stage runs again") from error
        shared = prompts.setdefault(data.instructions, data.instructions)
        found[run_id] = replace(data, instructions=shared)
    return found


def annotations_of(sweep: Sweep, evaluation: Evaluation, run_id: str) -> list[dict[str, Any]]:
    """One run's AlpacaEval annotations, whole.

    Raises:
        FailureError: they cannot be read.
    """
    rows: list[dict[str, Any]] = read_json(annotations_file(sweep, evaluation, run_id), list)
    return rows


def annotations_file(sweep: Sweep, evaluation: Evaluation, run_id: str) -> Path:
    """Where a judged run's annotations are.

    Raises:
        FailureError: they are not there any more.
    """
    path: Path = sweep.store.run(run_id).evaluation(evaluation.eval_id) / "annotations.json"
    if not path.exists():
        raise FailureError(f"cannot read {path}: it is not there any more")
    return path


# LC by `joint_difficulty`: it takes every run of a sweep that counts, so it is not in any run's own scores.

RunScores = dict[str, Any]


def with_joint_lc(
    sweep: Sweep, evaluation: Evaluation, scores: Mapping[str, RunScores]
) -> dict[str, RunScores]:
    """The same scores with LC, its standard errors and what the gate says of it; else why there is none.

    Args:
        sweep: whose runs.
        evaluation: of the scores.
        scores: run id -> its own, of every run that has them. Quarantined ones neither shape the difficulties nor
            get an LC.
    """
    from analysis.alpaca_eval.difficulty import joint_difficulty
    from analysis.alpaca_eval.integrity_gate import check_integrity

    judged = list(counting(scores))
    try:
        calibration = joint_difficulty(read_judged(sweep, evaluation, judged).values())
    except ValueError as error:  # fewer than two runs, several judges, no convergence
        return {run_id: {**one, "reason": str(error)} for run_id, one in scores.items()}
    found = dict(scores)
    for run_id, lc in _length_controlled(sweep, evaluation, judged, calibration).items():
        found[run_id] = {**scores[run_id], **lc}
        gate = check_integrity(
            annotations_of(sweep, evaluation, run_id),
            lc=lc["length_controlled_win_rate"],
            wr=scores[run_id]["win_rate"],
            lc_method=lc["lc_method"],
        )
        # Only LC is new to the gate. What it saw when the run was scored, with more to compare with, stays.
        before = scores[run_id]["integrity"]
        names = {flag["name"] for flag in before["flags"]}
        new = [flag.model_dump(mode="json") for flag in gate.flags if flag.name not in names]
        flags = sorted([*before["flags"], *new], key=lambda flag: flag["severity"] == "note")
        quarantined = any(flag["severity"] == "quarantine" for flag in flags)
        found[run_id]["integrity"] = {**before, "flags": flags, "quarantined": quarantined}
    return found


def _length_controlled(
    sweep: Sweep, evaluation: Evaluation, judged: Sequence[str], calibration: Any
) -> dict[str, RunScores]:
    """Every run's LC. The bootstrap takes seconds at AlpacaEval's size, so status and report share a file of it."""
    path = sweep.folder / "joint" / f"{evaluation.judgement_id}.json"
    # The difficulties come from all annotations, so they change when any of those does.
    made_by = {"calibration": calibration.fingerprint, "bootstrap": [BOOTSTRAP_SEED, REPLICATES]}
    with suppress(FailureError, KeyError, TypeError):
        known = read_json(path)
        if known["made_by"] == made_by and set(known["runs"]) == set(judged):
            return dict(known["runs"])
    runs = {
        run_id: length_controlled(annotations_of(sweep, evaluation, run_id), calibration)[0]
        for run_id in judged
    }
    with suppress(FailureError):  # whoever may only read the store computes it each time
        write_json(path, {"made_by": made_by, "runs": runs})
    return runs
