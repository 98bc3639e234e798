"""A finished sweep judged once more: the responses stay, and so does every earlier judgement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console

from adadpo.errors import FailureError, ModelError, UserError
from analysis.results.model import Comparison, Judgement, RunRow
from analysis.results.values import State
from sweeps.config.evaluation import judged_by
from sweeps.config.metrics import METRICS
from sweeps.config.schema import Judging
from sweeps.evaluation.preflight import require_evaluation
from sweeps.state.judged_runs import Scores
from sweeps.state.judgements import other_evaluations, record_evaluation
from sweeps.state.prompt_draws import prompt_draws
from sweeps.state.run_table import failures_of, find_runs, run_rows, run_scores
from sweeps.state.snapshot import take_snapshot
from sweeps.state.sweep import Sweep
from sweeps.store.job import Evaluation
from sweeps.store.layout import RunFolder, read_json


def judge_again(
    sweep: Sweep, judging: Judging, folder: Path, console: Console, words: Sequence[str] = ()
) -> Evaluation:
    """Judge and score the responses of every run that has them, under another judge or formula.

    Args:
        sweep: launched before.
        judging: the judge and the formula for LC.
        folder: where relative paths in `judging` start.
        console: for progress.
        words: of the runs to judge, see `selectors`; none: every run.

    Raises:
        UserError: there are no responses yet, the judge cannot be used, or no run fits the words.
        SweepError: judging stopped; what is judged stays, and the same command goes on.
    """
    from adadpo.errors import JudgeError
    from sweeps.dispatch.local import launch_inline
    from sweeps.operations.plan import judging_cost, judging_lines

    chosen = find_runs(sweep, words)
    sweep.store.require_writable()
    try:
        evaluation = judged_by(sweep.job.evaluation, judging, folder)
    except (JudgeError, ModelError, OSError) as error:
        raise UserError(f"--judge: {error}") from error
    if evaluation.judge is None:
        raise UserError("--judge none judges nothing")
    again = under(sweep, evaluation)
    folders = {run.run_id: sweep.store.run(run.run_id) for run in sweep.job.runs}
    generated = [run for run in chosen if _has_responses(folders[run.run_id], evaluation)]
    if not generated:
        raise UserError(f"{sweep.spec.name} has no responses yet: adadpo launch {sweep.spec.name}")
    for run in generated:  # asking for a judgement again is trying again
        if folders[run.run_id].state(evaluation.eval_id) == State.FAILED:
            folders[run.run_id].clear_failure()
    waiting = {run.run_id for run in again.select(State.WAITING)}
    runs = [run for run in generated if run.run_id in waiting]
    said = (
        f"{sweep.spec.name}: {len(generated)} of {len(chosen)} runs have responses, {len(runs)} to judge by "
        f"{evaluation.judge_name}"
    )
    console.print(said, markup=False, highlight=False)
    if runs:
        require_evaluation(evaluation, console)
        for line in judging_lines(judging_cost(sweep, evaluation, runs)):
            console.print(line, markup=False, highlight=False)
        record_evaluation(sweep, evaluation)
        sweep.begin(sweep.job.runs)  # a judge that stopped the launch is asked again
        launch_inline(again, runs, console)
    return evaluation


def require_judged(sweep: Sweep, evaluation: Evaluation) -> None:
    """Say which runs have responses that could not be judged.

    Raises:
        FailureError: there are some.
    """
    if failed := under(sweep, evaluation).select(State.FAILED):
        raise FailureError(
            f"{len(failed)} runs could not be judged by {evaluation.judge_name}: see adadpo logs "
            f"{sweep.spec.name} {failed[0].run_id}; the same command tries them again"
        )


def under(sweep: Sweep, evaluation: Evaluation) -> Sweep:
    """The sweep under another evaluation of its responses."""
    return replace(sweep, job=sweep.job.model_copy(update={"evaluation": evaluation}))


def _has_responses(folder: RunFolder, evaluation: Evaluation) -> bool:
    """Without its training's files a run would be trained again, which judging must not do."""
    return folder.has("train", evaluation.eval_id) and folder.has("generate", evaluation.eval_id)


def judgements_of(
    sweep: Sweep, rows: list[RunRow], scores: Scores, comparison: Comparison
) -> list[Judgement]:
    """Every judgement of the sweep's responses, the sweep file's own first; others only where a run has one.

    Args:
        sweep: whose responses.
        rows: of `run_rows` under its own evaluation.
        scores: of `run_scores` under it.
        comparison: the headline of these.
    """
    found = [_judgement(sweep, sweep.job.evaluation, rows, scores, comparison)]
    for evaluation in other_evaluations(sweep):
        folders = [sweep.store.run(run.run_id) for run in sweep.job.runs]
        if evaluation.eval_id != sweep.eval_id and any(f.done(evaluation.eval_id) for f in folders):
            found.append(_judged_again(sweep, evaluation))
    return found


def _judged_again(sweep: Sweep, evaluation: Evaluation) -> Judgement:
    from analysis.comparison import compare
    from analysis.study import make_study

    snapshot = take_snapshot(sweep, evaluation)
    scores = run_scores(sweep, evaluation, snapshot)
    rows = run_rows(sweep, evaluation, scores, snapshot)
    study = make_study(
        runs=rows,
        declared=sweep.declared(),
        metrics=METRICS,
        settings=sweep.settings,
        seeds=sweep.seeds,
        arms=list(sweep.spec.arms),
        declaration_changed=["another judgement"],
        bootstrap=prompt_draws(sweep, evaluation, scores)[0],
    )
    return _judgement(sweep, evaluation, rows, scores, compare(study)[0])


def _judgement(
    sweep: Sweep, evaluation: Evaluation, rows: list[RunRow], scores: Scores, comparison: Comparison
) -> Judgement:
    is_declared = evaluation.eval_id == sweep.eval_id
    means: dict[str, dict[str, float | None]] = {}
    for arm in sweep.spec.arms:
        mine = [row for row in rows if row.arm == arm and row.state == State.DONE]
        means[arm] = {
            name: fmean(values) if (values := _known(mine, name)) else None
            for name in ("win_rate", "length_controlled_win_rate")
        }
    summaries = list(_summaries(sweep, evaluation))
    return Judgement(
        eval_id=evaluation.eval_id,
        judge=evaluation.judge_name + _against(sweep, evaluation),
        lc_method=evaluation.lc_method,
        declared=is_declared,
        counts=dict(Counter(row.state for row in rows)),
        means=means,
        comparison=comparison,
        judging=_totals(summaries),
        failures=[] if is_declared else failures_of(under(sweep, evaluation), rows, scores),
        reason=_why_none(scores, [row.run_id for row in rows if row.state == State.DONE]),
    )


def _against(sweep: Sweep, evaluation: Evaluation) -> str:
    """The baseline, where it is not the sweep's own."""
    if evaluation.baseline_identity == sweep.job.evaluation.baseline_identity:
        return ""
    return f" against {Path(evaluation.baseline).name}"


def _why_none(scores: Mapping[str, Mapping[str, Any]], counting: list[str]) -> str | None:
    """Why no run that counts has an LC, where that is so; None also where there is no such run."""
    if any(scores[run_id]["length_controlled_win_rate"] is not None for run_id in counting):
        return None
    return next((scores[run_id]["reason"] for run_id in counting), None)


def _known(rows: list[Any], name: str) -> list[float]:
    return [row.metrics[name] for row in rows if row.metrics[name] is not None]


def _summaries(sweep: Sweep, evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    for run in sweep.job.runs:
        path = sweep.store.run(run.run_id).evaluation(evaluation.eval_id) / "judging.json"
        if path.exists():
            yield read_json(path, dict)


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
