"""The statistical part of the results: cells, comparisons and the verdict, from the table of runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from analysis.advice import advise
from analysis.comparison import compare
from analysis.evidence import AverageRanks, NextSteps, Power
from analysis.family import compare_arms
from analysis.friedman import rank_arms
from analysis.measured_power import measured_power
from analysis.results import ArmComparison, Cell, Comparison, Declared, Frozen, Metric, RunRow
from analysis.table import as_runs, index_runs, make_cells
from analysis.verdict import VerdictKind, make_verdict

if TYPE_CHECKING:
    import pandas as pd

    from analysis.prompt_bootstrap import PromptBootstrap


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
    diverged = Counter(run.arm for run in rows if run.state == "diverged")
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
    part = None if inference.guard is None else inference.guard.prompt
    return advise(
        inference.crossed,
        settings=comparison.test.n,
        runs=runs,
        declared=declared,
        prompts=prompts,
        part=part,
    )
