"""The statistical part of the results: every block that is a function of a study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis import statistics
from analysis.comparison import compare, compare_arms
from analysis.document import Reader, Results
from analysis.grid.best_setting import grid_best
from analysis.planning.next_step import advise
from analysis.planning.power import measured_power
from analysis.results.blocks import (
    BestOfGridBlock,
    Block,
    Cells,
    Comparisons,
    FlipsBlock,
    NextStepsBlock,
    OtherArms,
    PowerBlock,
    PromptLevelBlock,
    VerdictBlock,
)
from analysis.results.model import Comparison, Declared, Failure, Metric, RunRow
from analysis.results.table import as_runs, why_missing
from analysis.results.values import State, Value
from analysis.study import Study, make_study
from analysis.verdict import make_verdict

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Analysis(Reader):
    """The blocks that are computed from a study, read by kind."""

    blocks: list[Block[Any]]


def analyse(study: Study) -> Analysis:
    """Verdict, cells, comparisons, next steps, power, and every statistic of `analysis.statistics`.

    Raises:
        ValueError: a declared candidate that is no arm, or a primary of which neither direction is better.
    """
    table, declared = study.table, study.declared
    comparisons = compare(study)
    comparisons[0], other_arms = compare_arms(study, comparisons[0])
    diverged = Counter(run.arm for run in table.runs if run.state == State.DIVERGED)
    verdict = make_verdict(comparisons[0], declared=declared, metric=study.primary, diverged=diverged)
    power = measured_power(comparisons[0], declared=declared, rng_seed=study.rng_seed) if study.around else []
    made = [module.make(study) for module in statistics.modules()]
    return Analysis(
        [
            VerdictBlock(value=verdict.kind, sentence=verdict.sentence),
            Cells(value=table.cells()),
            Comparisons(value=comparisons),
            OtherArms(value=other_arms),
            _next_steps(study, comparisons[0]),
            PowerBlock(value=power),
            *(block for block in made if block is not None),
        ]
    )


def _next_steps(study: Study, comparison: Comparison) -> NextStepsBlock:
    inference = comparison.inference
    if inference is None or comparison.test is None:
        return NextStepsBlock(reason=comparison.test_reason)
    steps, reason = advise(
        inference.crossed,
        settings=comparison.test.n,
        runs=study.table.runs,
        declared=study.declared,
        prompts=study.prompts,
        part=None if inference.generalization is None else inference.generalization.prompt,
    )
    return NextStepsBlock(value=steps, reason=reason)


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
    axes = _axes(rows)
    study = make_study(
        runs=rows,
        declared=declared,
        metrics=metrics,
        settings=settings,
        seeds=seeds,
        arms=arms,
        declaration_changed=[NOT_DECLARED],
        axes=axes,
        rng_seed=rng_seed,
    )
    found = analyse(study)
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
        evaluation=None,
        axes=axes,
        arms={arm: {} for arm in arms},
        settings=settings,
        seeds=seeds,
        metrics=list(metrics),
        counts=dict(Counter(row.state for row in rows)),
        failures=_failures(rows, declared.primary),
        runs=rows,
        blocks=[
            *found.blocks,
            PromptLevelBlock(reason=NO_PROMPTS),
            BestOfGridBlock(value=[best for best in bests if best is not None]),
            FlipsBlock(reason=NO_PROMPTS),
        ],
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
