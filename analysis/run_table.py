"""A table of runs that came from elsewhere: everything that can be said of it, as one `Results`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from analysis.grid_best import grid_best
from analysis.results import Declared, Failure, Metric, Results, RunRow
from analysis.setting_groups import setting_groups
from analysis.summary import analyse
from analysis.table import as_runs, why_missing
from analysis.values import Value

if TYPE_CHECKING:
    import pandas as pd

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
        if row.state != "done" or row.metrics.get(primary) is None
    ]
