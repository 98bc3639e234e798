"""The tidy table of runs, from the store's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.results.model import Failure, RunRow, State
from sweeps.config.filters import select_runs
from sweeps.config.metrics import METRICS
from sweeps.evaluation.judge_and_score import quarantine_reasons
from sweeps.state.judged_runs import with_joint_lc
from sweeps.state.snapshot import Finished, Snapshot, measured, take_snapshot
from sweeps.state.sweep import Sweep
from sweeps.store.job import Evaluation, PlannedRun
from sweeps.store.layout import STAGES

OTHER_WEIGHTS = (
    "its responses are of earlier weights: the run was retrained, and not to the same bits (adadpo fsck)"
)
NAMES = [metric.name for metric in METRICS]
JUDGED = [
    f"{name}{error}"
    for name in ("win_rate", "length_controlled_win_rate", "lc_minus_wr")
    for error in ("", "_se")
]


def run_rows(
    sweep: Sweep,
    evaluation: Evaluation | None = None,
    scores: Mapping[str, Mapping[str, Any]] | None = None,
    snapshot: Snapshot | None = None,
) -> list[RunRow]:
    """Every planned run, in the order of the plan.

    Args:
        sweep: whose runs.
        evaluation: another one of the same responses; None: the sweep's own.
        scores: of `run_scores`, where the caller has them.
        snapshot: of `take_snapshot` under the evaluation, likewise.
    """
    snapshot = snapshot or take_snapshot(sweep, evaluation)
    scores = run_scores(sweep, evaluation, snapshot) if scores is None else scores
    eval_id = (evaluation or sweep.job.evaluation).eval_id
    return [
        _row(
            sweep,
            run,
            eval_id,
            snapshot.states[run.run_id],
            snapshot.finished.get(run.run_id),
            scores.get(run.run_id),
        )
        for run in sweep.job.runs
    ]


def run_scores(
    sweep: Sweep, evaluation: Evaluation | None = None, snapshot: Snapshot | None = None
) -> dict[str, dict[str, Any]]:
    """Run id -> what its evaluation came to, with what only all runs together tell; of every run that has one.

    Args:
        sweep: whose runs.
        evaluation: another one of the same responses; None: the sweep's own.
        snapshot: of `take_snapshot` under it, where the caller has it.
    """
    evaluation, snapshot = evaluation or sweep.job.evaluation, snapshot or take_snapshot(sweep, evaluation)
    scores = _one_judge({run_id: dict(one["scores"]) for run_id, one in snapshot.finished.items()})
    return with_joint_lc(sweep, evaluation, scores) if evaluation.lc_method == "joint_difficulty" else scores


def _row(
    sweep: Sweep,
    run: PlannedRun,
    eval_id: str,
    state: State,
    finished: Finished | None,
    scores: Mapping[str, Any] | None,
) -> RunRow:
    """One line of the table; of a run that is done: what it came to, and its part of `run_scores`."""
    shown: State = state
    values: dict[str, float | None] = dict.fromkeys(NAMES)
    flags: list[str] = []
    found = measured(sweep.store.run(run.run_id), eval_id) if finished is None else finished
    values |= found["values"]
    if finished is not None and scores is not None:
        values["mean_length"] = scores["mean_length"]
        flags = [flag["message"] for flag in scores.get("integrity", {}).get("flags", [])]
        if finished["other_weights"]:
            flags.append(OTHER_WEIGHTS)
        if quarantine_reasons(scores):
            shown = State.QUARANTINED
        else:
            values |= {name: scores.get(name) for name in JUDGED}
    return RunRow(
        run_id=run.run_id,
        arm=run.arm,
        setting=run.setting,
        hyperparameters=run.hyperparameters,
        seed=run.seed,
        state=_shown_state(shown),
        metrics=values,
        wall_seconds=found["wall_seconds"],
        flags=flags,
    )


def failures_of(sweep: Sweep, rows: list[RunRow], scores: Mapping[str, Mapping[str, Any]]) -> list[Failure]:
    """Why runs have no value of the declared metric; of `run_rows` and `run_scores` under the sweep's evaluation."""
    primary, found = sweep.spec.compare.primary, []
    for row in rows:
        folder = sweep.store.run(row.run_id)
        if row.state == State.DONE:
            if row.metrics[primary] is not None:
                continue
            reason = f"no {primary}: {scores[row.run_id]['reason']}"
        elif row.state == State.PRUNED:
            reason = f"pruned by the search: {sweep.pruned[row.setting]}"
        elif row.state == State.QUARANTINED:
            reason = "quarantined: " + "; ".join(quarantine_reasons(scores[row.run_id]))
        elif failure := folder.failed(sweep.eval_id):
            reason = f"{failure['kind']} in {failure['stage']}: {failure['message']}"
        else:
            done = folder.stages_done(sweep.eval_id)
            reason = "cancelled; " if row.state == State.CANCELLED else ""
            reason += f"{len(done)} of {len(STAGES)} stages are done" if done else "not started"
        run = {"run_id": row.run_id, "arm": row.arm, "setting": row.setting, "seed": row.seed}
        found.append(Failure(**run, state=row.state, reason=reason))
    return found


def _one_judge(scores: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Imported annotations may be of several judges: then none of the runs counts, since none is the odd one out."""
    judges = sorted({name for one in scores.values() if (name := one.get("annotator"))})
    if len(judges) < 2:
        return scores
    message = f"the runs were judged by several judges: {', '.join(judges)}"
    flag = {"name": "several_judges_of_runs", "severity": "quarantine", "message": message, "values": {}}
    found = {}
    for run_id, one in scores.items():
        gate = one.get("integrity", {})
        gate = {**gate, "flags": [flag, *gate.get("flags", [])], "quarantined": True}
        found[run_id] = {**one, "integrity": gate}
    return found


def _shown_state(state: State) -> State:
    # The owner is silent but may still work.
    return State.RUNNING if state is State.UNKNOWN else state


def find_runs(sweep: Sweep, words: Sequence[str]) -> list[PlannedRun]:
    """The runs that words such as `beta=0.1 '!seed=2' state:failed` mean; all of them without words.

    Raises:
        UserError: a word means nothing here, or no run fits.
    """
    shown: dict[str, State] = {}
    if any("quarantined" in word for word in words):
        shown = {row.run_id: row.state for row in run_rows(sweep) if row.state == State.QUARANTINED}
    return select_runs(
        sweep.job.runs,
        words,
        state=lambda run: shown.get(run.run_id) or sweep.state(run),
        cause=lambda run: (sweep.store.run(run.run_id).failed(sweep.eval_id) or {}).get("kind"),
        sweep=sweep.spec.name,
    )
