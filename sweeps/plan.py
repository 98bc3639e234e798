"""What a launch would do, cost and be able to show: said before anything is spent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

from sweeps.design import check_sweep, design_lines
from sweeps.disk import disk_lines, disk_use
from sweeps.dispatch.slurm import dry_run
from sweeps.evaluation import load_baseline, load_prompts
from sweeps.judging import Evaluation
from sweeps.launch_spec import Slurm
from sweeps.metrics import METRICS
from sweeps.provenance import split
from sweeps.resolve import PlannedRun
from sweeps.retraining import retraining_lines
from sweeps.search import search_lines
from sweeps.seen import Seen, look
from sweeps.sweep import Sweep


def make_plan(sweep: Sweep, spreads_from: Sweep | None = None) -> dict[str, Any]:
    """The plan as plain data, for `--json` and for people; `spreads_from`: a sweep whose finished runs give SDs."""
    seen = look(sweep)
    states = seen.states
    counts = Counter(states.values())
    waiting = [run for run in sweep.job.runs if states[run.run_id] == "waiting"]
    check, steps = check_sweep(sweep, spreads_from, seen)
    primary = next(metric for metric in METRICS if metric.name == sweep.spec.compare.primary)
    return {
        "sweep": sweep.spec.name,
        "store": str(sweep.store.root),
        "runs": len(sweep.job.runs),
        "new": counts["waiting"],
        "done": counts["done"],
        "running": counts["running"],
        "unknown": counts["unknown"],
        "failed": counts["failed"],
        "diverged": counts["diverged"],
        "trained_anew": retraining_lines({run.run_id: sweep.store.run(run.run_id) for run in waiting}),
        "settings": check.settings,
        "search": search_lines(sweep),
        "seeds": sweep.seeds,
        "arms": list(sweep.spec.arms),
        "evaluation": sweep.eval_id,
        "steps": [
            dict(each) for each in dict.fromkeys(tuple(split(sweep.job, r).items()) for r in sweep.job.runs)
        ],
        "seconds_per_run": seconds_per_run(seen),
        "judging": judging_cost(sweep),
        "disk": disk_use(sweep, waiting),
        "smallest_p": check.smallest_p,
        "alpha": sweep.spec.compare.alpha,
        "testable": check.testable,
        "design": check.model_dump(mode="json"),
        "next_steps": None if steps is None else steps.model_dump(mode="json"),
        "design_in_words": design_lines(check, steps, primary.unit),
        "declaration_changed": sweep.declaration_changes(),
        "unpinned": unpinned(sweep),
        "script": _script(sweep),
    }


def _script(sweep: Sweep) -> str | None:
    """What a launch would submit if nothing were queued: a plan does not ask Slurm, it is made on laptops too."""
    launch = sweep.spec.launch
    return (dry_run(sweep, launch, ask=False) or None) if isinstance(launch, Slurm) else None


def seconds_per_run(seen: Seen) -> float | None:
    """Median wall time of the runs that are done; None when none is."""
    times = [time for one in seen.finished.values() if (time := one["wall_seconds"])]
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
    from adadpo.models import cache_folder
    from analysis.alpaca_eval_assets import BASELINE, PROMPTS, list_assets
    from analysis.judges.config import AlpacaEval, judge_config
    from analysis.judges.estimate import estimate

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
    lines += [
        f"  declared comparison changed since launch: {change}" for change in plan["declaration_changed"]
    ]
    lines += [f"  not pinned to a revision, may change: {name}" for name in plan["unpinned"]]
    if plan["script"]:
        lines += ["", "batch scripts:", *("  " + line for line in plan["script"].splitlines())]
    return lines
