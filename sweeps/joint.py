"""LC by `joint_difficulty`: it takes every run of a sweep that counts, so it is not in any run's own scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from sweeps.errors import FailureError
from sweeps.evaluation import BOOTSTRAP_SEED, REPLICATES, length_controlled
from sweeps.judged_runs import annotations_of, counting, read_judged
from sweeps.judging import Evaluation
from sweeps.store import read_json, write_json
from sweeps.sweep import Sweep

Scores = dict[str, Any]


def with_joint_lc(sweep: Sweep, evaluation: Evaluation, scores: Mapping[str, Scores]) -> dict[str, Scores]:
    """The same scores with LC, its standard errors and what the gate says of it; else why there is none.

    Args:
        sweep: whose runs.
        evaluation: of the scores.
        scores: run id -> its own, of every run that has them. Quarantined ones neither shape the difficulties nor
            get an LC.
    """
    from analysis import joint_difficulty
    from analysis.integrity import check_integrity

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
) -> dict[str, Scores]:
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
