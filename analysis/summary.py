"""The statistical part of the results: cells, comparisons and the verdict, from the table of runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from analysis.comparison import compare, compare_arms
from analysis.inference.friedman import rank_arms
from analysis.planning.next_step import advise
from analysis.planning.power import measured_power
from analysis.results.model import (
    ArmComparison,
    AverageRanks,
    Cell,
    Comparison,
    Declared,
    Frozen,
    Metric,
    NextSteps,
    Power,
    RunRow,
)
from analysis.results.table import as_runs, index_runs, make_cells
from analysis.results.values import State
from analysis.verdict import VerdictKind, make_verdict

if TYPE_CHECKING:
    import pandas as pd

    from analysis.prompts.bootstrap import PromptBootstrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

from analysis.grid.best_setting import grid_best
from analysis.grid.setting_groups import setting_groups
from analysis.results.model import Failure, Results
from analysis.results.table import why_missing
from analysis.results.values import Value

if TYPE_CHECKING:
    import pandas as pd


class Analysis(Frozen):
    """Everything in `Results` that is computed from the runs' metrics."""

    cells: list[Cell]  # arm by setting by metric
    comparisons: list[Comparison]  # of the first candidate, the primary first
    other_arms: list[ArmComparison]  # each against the baseline, on the primary
    average_ranks: AverageRanks | None  # of three arms or more, on the primary; exploratory
    verdict: str  # one sentence: estimate, interval, p, unit, n
    verdict_kind: VerdictKind
    next_steps: NextSteps | None  # from the primary comparison
    next_steps_reason: str | None  # why there are none
    power: list[Power]  # of a new sweep like this one; empty where its spread is not known


def analyse(
    *,
    runs: Iterable[RunRow] | pd.DataFrame,
    declared: Declared,
    metrics: Sequence[Metric],
    settings: Sequence[str],
    seeds: Sequence[int],
    arms: Sequence[str],
    declaration_changed: Sequence[str] = (),
    bootstrap: PromptBootstrap | None = None,
    prompts: int | None = None,
    rng_seed: int = 0,
    around: bool = True,
) -> Analysis:
    """Cells, comparisons, verdict and next steps of a sweep; arguments and errors are those of `compare`.

    Raises:
        TableError: duplicate or unplanned runs.
        ValueError: a declared arm or metric that is not there, or a primary of which neither direction is
            better.
    """
    rows = as_runs(runs)
    comparisons = compare(
        runs=rows,
        declared=declared,
        metrics=metrics,
        settings=settings,
        seeds=seeds,
        arms=arms,
        declaration_changed=declaration_changed,
        bootstrap=bootstrap,
        prompts=prompts,
        rng_seed=rng_seed,
        around=around,
    )
    primary = next(metric for metric in metrics if metric.name == declared.primary)
    comparisons[0], other_arms = compare_arms(
        comparisons[0],
        runs=rows,
        declared=declared,
        metric=primary,
        settings=settings,
        seeds=seeds,
        arms=arms,
        declaration_changed=declaration_changed,
        bootstrap=bootstrap,
        prompts=prompts,
        rng_seed=rng_seed,
        around=around,
    )
    next_steps, reason = _next_steps(comparisons[0], rows, declared, prompts)
    diverged = Counter(run.arm for run in rows if run.state == State.DIVERGED)
    verdict = make_verdict(comparisons[0], declared=declared, metric=primary, diverged=diverged)
    index = index_runs(rows)
    return Analysis(
        cells=make_cells(index, arms=arms, settings=settings, seeds=seeds, metrics=metrics),
        comparisons=comparisons,
        other_arms=other_arms,
        average_ranks=rank_arms(
            index, metric=primary, arms=arms, settings=settings, seeds=seeds, alpha=declared.alpha
        ),
        verdict=verdict.sentence,
        verdict_kind=verdict.kind,
        next_steps=next_steps,
        next_steps_reason=reason,
        power=measured_power(comparisons[0], declared=declared, rng_seed=rng_seed) if around else [],
    )


def _next_steps(
    comparison: Comparison, runs: Sequence[RunRow], declared: Declared, prompts: int | None
) -> tuple[NextSteps | None, str | None]:
    inference = comparison.inference
    if inference is None or comparison.test is None:
        return None, comparison.test_reason
    part = None if inference.generalization is None else inference.generalization.prompt
    return advise(
        inference.crossed,
        settings=comparison.test.n,
        runs=runs,
        declared=declared,
        prompts=prompts,
        part=part,
    )


# A table of runs that came from elsewhere: everything that can be said of it, as one `Results`.

NO_PROMPTS = "a table of runs holds no judgements of single prompts"
NOT_DECLARED = "nothing was declared before these results"


def analyse_runs(
    runs: Iterable[RunRow] | pd.DataFrame,
    *,
    declared: Declared,
    metrics: Sequence[Metric],
    name: str = "runs",
    provenance: Mapping[str, str] | None = None,
    rng_seed: int = 0,
) -> Results:
    """Compare arms in a table of runs of which nothing else is known.

    The plan is what the table holds: its settings and arms in order of appearance, its seeds sorted; a combination
    that is not there is a missing run. The result is exploratory, since the table holds its results already.

    Args:
        runs: one per arm, setting and seed: `RunRow`s, or a DataFrame (see `runs_from_frame`). Their hyperparameters
            are the axes of the settings.
        declared: arms, primary metric, alpha, direction.
        metrics: to compare, the primary among them.
        name: title of the results.
        provenance: where the table is from, in words.
        rng_seed: of the Bayesian test's and the self-check's draws.

    Returns:
        What `results.json` holds. `evaluation` is None, as is all that needs single prompts.

    Raises:
        TableError: a duplicate run.
        ValueError: an arm or metric that is not there, a primary of which neither direction is better, or no runs.
    """
    rows = as_runs(runs)
    if not rows:
        raise ValueError("the table holds no runs")
    declared = declared.model_copy(update={"preregistered": False})
    settings, arms = (list(dict.fromkeys(getattr(row, key) for row in rows)) for key in ("setting", "arm"))
    seeds = sorted({row.seed for row in rows})
    for role, arm in (
        ("baseline", declared.baseline),
        *(("candidate", arm) for arm in (declared.candidate, *declared.more_candidates)),
    ):
        if arm not in arms:
            raise ValueError(f"{role} {arm!r} is not an arm; arms: {', '.join(arms)}")
    found = analyse(
        runs=rows,
        declared=declared,
        metrics=metrics,
        settings=settings,
        seeds=seeds,
        arms=arms,
        declaration_changed=[NOT_DECLARED],
        rng_seed=rng_seed,
    )
    axes = _axes(rows)
    primary = next(metric for metric in metrics if metric.name == declared.primary)
    bests = [
        grid_best(
            rows,
            metric=metric,
            candidate=declared.candidate,
            baseline=declared.baseline,
            settings=settings,
            seeds=seeds,
            no_scores=NO_PROMPTS,
        )
        for metric in sorted(metrics, key=lambda one: one.name != declared.primary)
        if metric.higher_is_better is not None
    ]
    return Results(
        sweep=name,
        declared=declared,
        declaration_changed=[],
        verdict=found.verdict,
        verdict_kind=found.verdict_kind,
        evaluation=None,
        axes=axes,
        arms={arm: {} for arm in arms},
        settings=settings,
        seeds=seeds,
        metrics=list(metrics),
        counts=dict(Counter(row.state for row in rows)),
        failures=_failures(rows, declared.primary),
        runs=rows,
        cells=found.cells,
        comparisons=found.comparisons,
        other_arms=found.other_arms,
        curves=[],
        samples=[],
        next_steps=found.next_steps,
        next_steps_reason=found.next_steps_reason,
        power=found.power,
        prompt_level_reason=NO_PROMPTS,
        best_of_grid=[best for best in bests if best is not None],
        flips_reason=NO_PROMPTS,
        groups=setting_groups(
            found.comparisons[0],
            rows,
            axes=axes,
            declared=declared,
            metric=primary,
            settings=settings,
            seeds=seeds,
        ),
        provenance=dict(provenance or {}),
    )


def _axes(rows: Sequence[RunRow]) -> dict[str, list[Value]]:
    axes: dict[str, list[Value]] = {}
    for row in rows:
        for axis, value in row.hyperparameters.items():
            if value not in axes.setdefault(axis, []):
                axes[axis].append(value)
    return axes


def _failures(rows: Sequence[RunRow], primary: str) -> list[Failure]:
    return [
        Failure(
            run_id=row.run_id,
            arm=row.arm,
            setting=row.setting,
            seed=row.seed,
            state=row.state,
            reason=why_missing(row, primary),
        )
        for row in rows
        if row.state != State.DONE or row.metrics.get(primary) is None
    ]
