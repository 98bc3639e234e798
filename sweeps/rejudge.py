"""A finished sweep judged once more: the responses stay, and so does every earlier judgement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from filelock import FileLock
from rich.console import Console

from analysis.results import Judgement
from sweeps.errors import UserError
from sweeps.judging import Evaluation, judged_by
from sweeps.metrics import METRICS
from sweeps.rows import run_rows
from sweeps.spec import Judging
from sweeps.store import read_json, write_json
from sweeps.sweep import Sweep


def judge_again(sweep: Sweep, judging: Judging, folder: Path, console: Console) -> Evaluation:
    """Judge and score the responses of every run that has them, under another judge or formula.

    Args:
        sweep: launched before.
        judging: the judge and the formula for LC.
        folder: where relative paths in `judging` start.
        console: for progress.

    Raises:
        UserError: there are no responses yet, or the judge cannot be used.
        SweepError: judging stopped; what is judged stays, and the same command goes on.
    """
    from analysis.judges import JudgeError
    from sweeps.dispatch.inline import launch_inline

    sweep.store.require_writable()
    try:
        evaluation = judged_by(sweep.job.evaluation, judging, folder)
    except (JudgeError, OSError) as error:
        raise UserError(f"--judge: {error}") from error
    if evaluation.judge is None:
        raise UserError("--judge none judges nothing")
    again = replace(sweep, job=sweep.job.model_copy(update={"evaluation": evaluation}))
    generated = [
        run for run in sweep.job.runs if sweep.store.run(run.run_id).has("generate", evaluation.eval_id)
    ]
    if not generated:
        raise UserError(f"{sweep.spec.name} has no responses yet: adadpo launch {sweep.spec.name}")
    waiting = {run.run_id for run in again.select("waiting")}
    _remember(sweep, evaluation)
    runs = [run for run in generated if run.run_id in waiting]
    console.print(
        f"{sweep.spec.name}: {len(generated)} of {len(sweep.job.runs)} runs have responses, {len(runs)} to judge by "
        f"{evaluation.judge_name}",
        markup=False,
        highlight=False,
    )
    if runs:
        launch_inline(again, runs, console)
    return evaluation


def judgements_of(sweep: Sweep) -> list[Judgement]:
    """Every judgement of the sweep's responses, the declared one first."""
    evaluations = [sweep.job.evaluation]
    evaluations += [each for each in remembered(sweep) if each.eval_id != sweep.eval_id]
    return [_judgement(sweep, evaluation) for evaluation in evaluations]


def remembered(sweep: Sweep) -> list[Evaluation]:
    """The evaluations by which these responses were judged again."""
    path = sweep.folder / "judgements.json"
    found = [Evaluation(**each) for each in read_json(path)] if path.exists() else []
    return [each for each in found if each.generation_id == sweep.job.evaluation.generation_id]


def _remember(sweep: Sweep, evaluation: Evaluation) -> None:
    path = sweep.folder / "judgements.json"
    with FileLock(sweep.folder / "judgements.lock"):
        known = read_json(path) if path.exists() else []
        others = [each for each in known if Evaluation(**each).eval_id != evaluation.eval_id]
        write_json(path, [*others, evaluation.model_dump(mode="json")])


def _judgement(sweep: Sweep, evaluation: Evaluation) -> Judgement:
    from analysis import compare
    from analysis.annotations import AnnotationError

    declared, reason = sweep.declared(), None
    try:
        rows = run_rows(sweep, evaluation)
    except AnnotationError as error:  # a judgement beside the declared one must not take the report away
        if evaluation.eval_id == sweep.eval_id:
            raise
        rows, reason = [], str(error)
    is_declared = evaluation.eval_id == sweep.eval_id
    comparisons = compare(
        runs=rows,
        declared=declared,
        metrics=METRICS,
        settings=sweep.settings,
        seeds=sweep.seeds,
        arms=list(sweep.spec.arms),
        declaration_changed=sweep.declaration_changes() if is_declared else ["another judgement"],
    )
    means: dict[str, dict[str, float | None]] = {}
    for arm in sweep.spec.arms:
        mine = [row for row in rows if row.arm == arm and row.state == "done"]
        means[arm] = {
            name: fmean(values) if (values := _known(mine, name)) else None
            for name in ("win_rate", "length_controlled_win_rate")
        }
    summaries = list(_summaries(sweep, evaluation))
    return Judgement(
        eval_id=evaluation.eval_id,
        judge=evaluation.judge_name,
        lc_method=evaluation.lc_method,
        declared=is_declared,
        counts=dict(Counter(row.state for row in rows)),
        means=means,
        comparison=comparisons[0] if rows else None,
        judging=_totals(summaries),
        reason=reason,
    )


def _known(rows: list[Any], name: str) -> list[float]:
    return [row.metrics[name] for row in rows if row.metrics[name] is not None]


def _summaries(sweep: Sweep, evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    for run in sweep.job.runs:
        path = sweep.store.run(run.run_id).evaluation(evaluation.eval_id) / "judging.json"
        if path.exists():
            yield read_json(path)


def _totals(summaries: list[dict[str, Any]]) -> dict[str, float | int | str | bool | None]:
    """How judging went over all runs: sums of counts and dollars, means of the judge's own errors."""
    found: dict[str, float | int | str | bool | None] = {}
    for name in ("pairs", "missing", "answers_asked", "answers_cached", "requests", "truncated_pairs"):
        values = [each[name] for each in summaries if isinstance(each.get(name), int | float)]
        if values:
            found[name] = sum(values)
    charged = [each["account_charged"] for each in summaries if each.get("account_charged") is not None]
    if charged:
        found["dollars"] = max(charged)  # of the sweep's account: it grows from run to run
    for name, parts in (
        ("position_bias", ("estimate", "consistency")),
        ("noise", ("within_pair_sd", "win_rate_sd")),
    ):
        for part in parts:
            values = [
                each[name][part]
                for each in summaries
                if isinstance(each.get(name), dict) and each[name].get(part) is not None
            ]
            if values:
                found[f"{name}_{part}"] = fmean(values)
    return found
