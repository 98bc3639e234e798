"""Whether a run's trained weights are still needed: by an evaluation that any sweep of the store plans."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from adadpo.errors import SweepError
from sweeps.evaluation.judge_and_score import quarantine_reasons
from sweeps.state.judgements import recorded_evaluations
from sweeps.state.sweep import Sweep
from sweeps.store.job import Evaluation
from sweeps.store.layout import RunFolder, read_json


@dataclass
class Plans:
    """What all sweeps of a store want of its runs."""

    own: dict[str, list[tuple[str, Evaluation]]] = field(
        default_factory=dict
    )  # run id -> (sweep, evaluation)
    earlier: dict[str, list[tuple[str, Evaluation]]] = field(
        default_factory=dict
    )  # launched or asked for before
    unreadable: list[str] = field(
        default_factory=list
    )  # sweeps that cannot be opened: nobody knows what they want


def plans_of(sweeps: Iterable[Sweep], unreadable: Sequence[str]) -> Plans:
    """Gather them.

    Args:
        sweeps: every sweep of the store, and files that are not launched yet.
        unreadable: names of those that cannot be opened.
    """
    found = Plans(unreadable=list(unreadable))
    for sweep in sweeps:
        name = sweep.spec.name
        try:
            others = recorded_evaluations(sweep)
        except SweepError:
            found.unreadable.append(name)
            continue
        for run in sweep.job.runs:
            found.own.setdefault(run.run_id, []).append((name, sweep.job.evaluation))
            found.earlier.setdefault(run.run_id, []).extend((name, other) for other in others)
    return found


def why_needed(folder: RunFolder, plans: Plans) -> str | None:
    """Why the weights of a trained run stay; None: every evaluation that is planned is complete and counts.

    Raises:
        FailureError: a file of an evaluation is damaged.
    """
    run_id = folder.path.name
    if plans.unreadable:
        return f"the sweep {plans.unreadable[0]} cannot be opened, and may need them"
    for name, evaluation in plans.own.get(run_id, ()):
        if not folder.done(evaluation.eval_id):
            return f"{name} has not evaluated it"
        if quarantine_reasons(read_json(folder.evaluation(evaluation.eval_id) / "scores.json", dict)):
            return f"its evaluation by {name} is quarantined"
    for name, evaluation in plans.earlier.get(run_id, ()):
        if not folder.has_files("generate", evaluation.eval_id):
            return f"{name} has asked for an evaluation that it lacks"
    for generation in folder.path.glob("eval/*/"):
        if not (generation / "outputs.json").exists():
            return "an evaluation of it was begun and is not complete"
    return None if any(folder.path.glob("eval/*/*/scores.json")) else "it was never evaluated"
