"""Which judgements of a sweep's answers are on disk, the declared one and others."""

from __future__ import annotations

from filelock import FileLock
from pydantic import ValidationError

from adadpo.errors import FailureError
from sweeps.state.sweep import Sweep
from sweeps.store.job import Evaluation
from sweeps.store.layout import read_json, write_json


def other_evaluations(sweep: Sweep) -> list[Evaluation]:
    """The evaluations by which these responses were judged again."""
    return [
        each
        for each in recorded_evaluations(sweep)
        if each.generation_id == sweep.job.evaluation.generation_id
    ]


def record_evaluation(sweep: Sweep, evaluation: Evaluation) -> None:
    """Have the report show an evaluation also when the sweep file names another one."""
    with FileLock(sweep.folder / "judgements.lock"):
        others = [each for each in recorded_evaluations(sweep) if each.eval_id != evaluation.eval_id]
        known = [each.model_dump(mode="json") for each in (*others, evaluation)]
        write_json(sweep.folder / "judgements.json", known)


def recorded_evaluations(sweep: Sweep) -> list[Evaluation]:
    """The evaluations that were launched or asked for, whatever their responses."""
    path = sweep.folder / "judgements.json"
    try:
        return [Evaluation.model_validate(each) for each in read_json(path)] if path.exists() else []
    except (ValidationError, TypeError) as error:
        raise FailureError(
            f"{path} is damaged; delete it, and judge again: no answer is paid twice"
        ) from error
