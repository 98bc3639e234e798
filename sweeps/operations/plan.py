"""What a launch would do, cost and be able to show: said before anything is spent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from adadpo.errors import UserError
from analysis.results.values import State
from sweeps.config.launch import Slurm
from sweeps.config.metrics import METRICS
from sweeps.dispatch.slurm import dry_run
from sweeps.evaluation.judge_and_score import load_baseline, load_prompts
from sweeps.execution.retraining import retraining_lines
from sweeps.operations.disk import disk_lines, disk_use
from sweeps.search.loop import search_lines
from sweeps.state.opening import drift
from sweeps.state.run_table import run_rows
from sweeps.state.snapshot import Snapshot, take_snapshot
from sweeps.state.sweep import Sweep
from sweeps.store.host import split
from sweeps.store.job import Evaluation, PlannedRun

if TYPE_CHECKING:
    from analysis.planning.design import DesignCheck, Spreads
    from analysis.results.model import NextSteps


# What a sweep's design can show, from its file and from the runs that are done.


def require_testable(sweep: Sweep, *, allow: bool) -> None:
    """Refuse to spend anything on a design whose outcome cannot reach alpha whatever it is.

    Raises:
        UserError: it cannot, and `--allow-untestable` was not given.
    """
    from analysis.planning.power import fewest_settings, smallest_p

    compare, settings = sweep.spec.compare, sweep.settings_in_all
    family = len(compare.candidates)
    smallest, level = smallest_p(settings, compare.alternative), compare.alpha / family
    if allow or smallest <= level:
        return
    shared = "" if family == 1 else f" / {family} candidates"
    raise UserError(
        f"{sweep.spec.name} cannot reach alpha = {compare.alpha:g}{shared}: over {settings} settings the smallest p is "
        f"{smallest:.4g}; {fewest_settings(level, compare.alternative)} settings can. "
        "--allow-untestable runs it all the same"
    )


def check_sweep(
    sweep: Sweep, spreads_from: Sweep | None = None, snapshot: Snapshot | None = None
) -> tuple[DesignCheck, NextSteps | None]:
    """The design of a sweep, and its cheapest next step once there are results.

    SDs are those that the file states (`compare.run_sd`, `setting_sd`, `seed_sd`), else those of another sweep's
    finished runs, else those of its own.

    Args:
        sweep: whose design.
        spreads_from: the other sweep.
        snapshot: of `take_snapshot` at the sweep, where the caller has it.

    Raises:
        UserError: the other sweep's finished runs do not give SDs.
    """
    from analysis.planning.design import check_design

    metric = sweep.spec.compare.primary
    own, steps = _so_far(sweep, metric, snapshot or take_snapshot(sweep))
    spreads: Spreads | str | None = _stated(sweep)
    if spreads is None and spreads_from is not None:
        spreads = _so_far(spreads_from, metric, take_snapshot(spreads_from))[0]
        if spreads is None or isinstance(spreads, str):
            why = spreads or "SDs need 2 settings and 2 seeds without a missing pair"
            raise UserError(f"--sds-from {spreads_from.spec.name}: {why}")
    declared = sweep.spec.compare
    found = check_design(
        settings=sweep.settings_in_all,
        seeds=len(sweep.seeds),
        alpha=declared.alpha,
        alternative=declared.alternative,
        family=len(declared.candidates),
        effect=declared.effect,
        spreads=spreads or own,
    )
    return found, steps


def _so_far(of: Sweep, metric: str, snapshot: Snapshot) -> tuple[Spreads | str | None, NextSteps | None]:
    """Of the finished runs: SDs of a metric's differences or why there are none, and what to add."""
    if not snapshot.finished:
        return None, None
    import numpy as np

    from analysis.inference.crossed import crossed_test, difference_table, setting_differences
    from analysis.planning.design import measured_spreads
    from analysis.planning.next_step import advise
    from analysis.results.table import pair_by_setting

    declared, rows = of.declared(), run_rows(of, snapshot=snapshot)
    arms = {"baseline": declared.baseline, "candidate": declared.candidate}
    pairs = pair_by_setting(rows, metric=metric, **arms, settings=of.settings, seeds=of.seeds)
    table = difference_table(setting_differences(pairs))
    settings = int((~np.isnan(table)).any(axis=1).sum())
    if not settings:
        return None, None
    crossed = crossed_test(table, alternative=declared.alternative, confidence=1 - declared.alpha)
    spreads = measured_spreads(crossed, f"the finished runs of {of.spec.name}")
    return spreads, advise(crossed, settings=settings, runs=rows, declared=declared)[0]


def design_lines(check: DesignCheck, steps: NextSteps | None, unit: str) -> list[str]:
    """`check_sweep` for people."""
    lines = [
        f"  what it can show: the signed-rank test over {check.settings} settings reaches p "
        f"{f'= {check.smallest_p:.4g}' if check.smallest_p else '< 1e-300'} at best; alpha is {check.alpha:g}"
    ]
    if not check.testable:
        lines.append(
            f"  NOT TESTABLE: this design cannot reach alpha whatever the results are; {check.fewest_settings} "
            "settings can; launch refuses without --allow-untestable"
        )
    if check.seeds == 1:
        lines.append("  with one seed no verdict is better or worse, whatever the results are: add seeds")
    if check.power is not None:
        lines.append(
            f"  power for a true difference of {check.power.effect:g} {unit}: {check.power.verdict or 0:.2f}"
            + (f"; {check.enough_settings} settings have 0.80" if check.enough_settings else "")
            + f" (the signed-rank test alone {check.power.power:.2f}; the verdict needs the generalization test too; "
            "the variance between prompts is not in it)"
        )
    if check.detectable is not None:
        lines.append(f"  found with a power of 0.80: a true difference of {check.detectable:.2g} {unit}")
    if check.spreads is not None:
        spreads = check.spreads
        lines.append(
            f"  by SDs of {spreads.run:.3g} between runs, {spreads.setting:.3g} between settings, {spreads.seed:.3g} "
            f"between seeds ({spreads.source})"
        )
    elif check.testable:
        lines.append(f"  power: not known: {check.reasons['power']}")
    return lines + next_step_lines(steps)


def next_step_lines(steps: NextSteps | None) -> list[str]:
    """The cheapest next step for people."""
    best = None if steps is None else next((s for s in steps.steps if s.reduction_per_cost is not None), None)
    if steps is None or best is None or not steps.standard_error:  # nothing varies: no step would help
        return []
    said = (
        f"cheapest next step: {best.amount} more {best.action}, {best.cost:.2g} {steps.unit}: standard error "
        f"{steps.standard_error:.3g} to {best.standard_error:.3g}"
    )
    return [f"  {said}" + (f"; {steps.warning}" if steps.warning else "")]


def _stated(sweep: Sweep) -> Spreads | None:
    from analysis.planning.design import Spreads

    compare = sweep.spec.compare
    if compare.run_sd is None or compare.setting_sd is None:
        return None
    return Spreads(
        run=compare.run_sd, setting=compare.setting_sd, seed=compare.seed_sd, source="stated in the file"
    )


def make_plan(sweep: Sweep, spreads_from: Sweep | None = None) -> dict[str, Any]:
    """The plan as plain data, for `--json` and for people; `spreads_from`: a sweep whose finished runs give SDs."""
    snapshot = take_snapshot(sweep)
    states = snapshot.states
    counts = Counter(states.values())
    waiting = [run for run in sweep.job.runs if states[run.run_id] == State.WAITING]
    check, steps = check_sweep(sweep, spreads_from, snapshot)
    primary = next(metric for metric in METRICS if metric.name == sweep.spec.compare.primary)
    return {
        "sweep": sweep.spec.name,
        "store": str(sweep.store.root),
        "runs": len(sweep.job.runs),
        "new": counts[State.WAITING],
        "done": counts[State.DONE],
        "running": counts[State.RUNNING],
        "unknown": counts[State.UNKNOWN],
        "failed": counts[State.FAILED],
        "diverged": counts[State.DIVERGED],
        "trained_anew": retraining_lines({run.run_id: sweep.store.run(run.run_id) for run in waiting}),
        "settings": check.settings,
        "search": search_lines(sweep),
        "seeds": sweep.seeds,
        "arms": list(sweep.spec.arms),
        "evaluation": sweep.eval_id,
        "steps": [
            dict(each) for each in dict.fromkeys(tuple(split(sweep.job, r).items()) for r in sweep.job.runs)
        ],
        "seconds_per_run": seconds_per_run(snapshot),
        "judging": judging_cost(sweep),
        "disk": disk_use(sweep, waiting),
        "smallest_p": check.smallest_p,
        "alpha": sweep.spec.compare.alpha,
        "testable": check.testable,
        "design": check.model_dump(mode="json"),
        "next_steps": None if steps is None else steps.model_dump(mode="json"),
        "design_in_words": design_lines(check, steps, primary.unit),
        "declaration_changed": sweep.declaration_changes(),
        "drift": drift(sweep),
        "unpinned": unpinned(sweep),
        "script": _script(sweep),
    }


def _script(sweep: Sweep) -> str | None:
    """What a launch would submit if nothing were queued: a plan does not ask Slurm, it is made on laptops too."""
    launch = sweep.spec.launch
    return (dry_run(sweep, launch, ask=False) or None) if isinstance(launch, Slurm) else None


def seconds_per_run(snapshot: Snapshot) -> float | None:
    """Median wall time of the runs that are done; None when none is."""
    times = [time for one in snapshot.finished.values() if (time := one["wall_seconds"])]
    return median(times) if times else None


def judging_cost(
    sweep: Sweep, evaluation: Evaluation | None = None, runs: Sequence[PlannedRun] | None = None
) -> dict[str, Any] | None:
    """What judging would cost; None where no API is asked. Nothing is fetched for it.

    Args:
        sweep: whose runs.
        evaluation: None: the sweep's own.
        runs: None: those that have no judgement yet.
    """
    from adadpo.files import cache_folder
    from analysis.alpaca_eval.assets import BASELINE, PROMPTS, list_assets
    from analysis.judges.config import AlpacaEval, judge_config
    from analysis.judges.costs import estimate

    evaluation = evaluation or sweep.job.evaluation
    config = None if evaluation.judge is None else judge_config(evaluation.judge)
    if not isinstance(config, AlpacaEval):
        return None
    eval_id = evaluation.eval_id
    waiting = runs or [run for run in sweep.job.runs if not sweep.store.run(run.run_id).has("judge", eval_id)]
    needed = [name for name in evaluation.needs_assets if name in (PROMPTS, BASELINE)]
    absent = [asset.name for asset in list_assets(cache_folder(), needed) if asset.status != "present"]
    if absent:
        reason = f"AlpacaEval's {' and '.join(absent)} not here yet: adadpo assets"
        return {"requests": None, "dollars": None, "max_cost": config.max_cost, "reason": reason}
    prompts = load_prompts(evaluation)
    baseline = None
    if evaluation.baseline != "reference":
        baseline = [row["output"] for row in load_baseline(evaluation, prompts)]
    tokens = evaluation.decoding.max_new_tokens
    return estimate(config, prompts, runs=len(waiting), answer_tokens=tokens, baseline=baseline).as_dict()


def judging_lines(judging: dict[str, Any] | None) -> list[str]:
    """`judging_cost` for people."""
    if judging is None:
        return []
    requests = "" if judging["requests"] is None else f"at most {judging['requests']:,} requests, "
    known = judging["dollars"] is not None
    dollars = f"about ${judging['dollars']:.2f}" if known else "at a cost that is not known"
    cap = "" if judging["max_cost"] is None else f", stopped before ${judging['max_cost']:.2f}"
    return [f"  judging: {requests}{dollars}{cap} ({judging['reason']})"]


def unpinned(sweep: Sweep) -> list[str]:
    """Hub names without a fixed revision: what they mean may change between two launches."""
    job = sweep.job
    names = [identity for run in job.runs[:1] if (identity := run.config.model).endswith("@main")]
    names += [
        f"hub:{source.location}@main"
        for source in (job.train, job.heldout)
        if source is not None and source.kind == "hub" and source.revision == "main"
    ]
    return list(dict.fromkeys(names))


def plan_lines(plan: dict[str, Any]) -> list[str]:
    """The plan for people, in rich's markup-free text."""
    lines = [
        f"{plan['sweep']}: {len(plan['arms'])} arms x {plan['settings']} settings x {len(plan['seeds'])} seeds"
        f" = {plan['runs']} runs{' so far' if plan['search'] else ''}   (store {plan['store']})",
        f"  +{plan['new']} new  ={plan['done']} done  ~{plan['failed'] + plan['diverged']} failed or diverged"
        f"  {plan['running']} running" + (f"  {plan['unknown']} unknown" if plan["unknown"] else ""),
    ]
    lines += [f"  {line}" for line in plan["trained_anew"]]
    lines += plan["search"]
    for step in plan["steps"]:
        strategy = f" ({step['strategy']})" if step["strategy"] else ""
        lines.append(
            f"  a step: {step['pairs']} pairs = {step['per_pass']} in a pass x {step['processes']} processes{strategy}"
            f" x {step['passes']} passes"
        )
    if plan["failed"] + plan["diverged"]:
        lines.append(
            f"  failed and diverged runs stay as they are; try them again: adadpo retry {plan['sweep']}"
        )
    each = plan["seconds_per_run"]
    if plan["new"]:
        cost = (
            f"about {each * plan['new'] / 60:.0f} min at {each:.0f} s a run"
            if each
            else "not known before the first run"
        )
        lines.append(f"  cost of the new runs: {cost}")
    lines += judging_lines(plan["judging"])
    lines += disk_lines(plan["disk"])
    lines += plan["design_in_words"]
    lines += [f"  {change}" for change in plan["drift"]]
    lines += [
        f"  declared comparison changed since launch: {change}" for change in plan["declaration_changed"]
    ]
    lines += [f"  not pinned to a revision, may change: {name}" for name in plan["unpinned"]]
    if plan["script"]:
        lines += ["", "batch scripts:", *("  " + line for line in plan["script"].splitlines())]
    return lines
