"""The annotations of a sweep's runs as the analysis takes them: thousands of runs at a time, so without their texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.errors import FailureError
from sweeps.evaluation import calibration_of, quarantine_reasons
from sweeps.judging import Evaluation
from sweeps.store import read_json
from sweeps.sweep import Sweep

if TYPE_CHECKING:
    from analysis.calibration import Calibration
    from analysis.length_control import LcData

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
    from analysis import joint_difficulty
    from analysis.calibration import CalibrationError, difficulty_of

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
    from analysis.annotations import AnnotationError
    from analysis.length_control import lc_data

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
