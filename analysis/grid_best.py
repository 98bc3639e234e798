"""Best of the grid for both arms: naive, corrected where there are prompts, and against the settings tried."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from analysis.findings import BestDifference, BestOfGrid, GridBest
from analysis.moments import mean
from analysis.results import Metric, RunRow
from analysis.search_budget import compare_search_budgets
from analysis.selection import best_of_grid_difference
from analysis.table import Index, index_runs, value_of

if TYPE_CHECKING:
    from analysis.grid_scores import GridScores, ScoredMetric

DRAWS = (
    1000  # each refits every run twice; the ends of a 95% interval then have an error of a tenth of its SD
)


def grid_best(
    runs: Iterable[RunRow],
    *,
    metric: Metric,
    candidate: str,
    baseline: str,
    settings: Sequence[str],
    seeds: Sequence[int],
    scores: GridScores | None = None,
    no_scores: str = "there are no judgements of single prompts",
    rng_seed: int = 0,
    draws: int = DRAWS,
) -> GridBest | None:
    """Both arms' best setting on one metric.

    Args:
        runs: the tidy table.
        metric: of which one direction is better.
        candidate: arm.
        baseline: arm.
        settings: planned.
        seeds: planned.
        scores: of the same runs, by run id, for the correction; None: there is none.
        no_scores: why.
        rng_seed: of the draws of prompts.
        draws: their number.

    Returns:
        None where an arm has no value at all.

    Raises:
        ValueError: neither direction of the metric is better.
    """
    if metric.higher_is_better is None:
        raise ValueError(f"{metric.name}: neither direction is better, so no setting is the best")
    index = index_runs(runs)
    values = {arm: _setting_values(index, arm, metric, settings, seeds) for arm in (candidate, baseline)}
    if not values[candidate] or not values[baseline]:
        return None
    worst, given = _worst(index, values, metric, settings, seeds)
    budgets = compare_search_budgets(
        [*values[candidate].values(), *[worst] * len(given[candidate])],
        [*values[baseline].values(), *[worst] * len(given[baseline])],
        higher_is_better=metric.higher_is_better,
    )
    if scores is None:
        bests = _naive(values[candidate], values[baseline], metric.higher_is_better, no_scores)
    else:
        ours, theirs = (
            scores.score(_groups(index, arm, list(values[arm]), seeds, metric), _scored(metric))
            for arm in (candidate, baseline)
        )
        bests = best_of_grid_difference(
            ours,
            theirs,
            scores.prompts,
            rng=np.random.default_rng(rng_seed),
            draws=draws,
            higher_is_better=metric.higher_is_better,
        )
    return GridBest(
        metric=metric.name,
        candidate=list(values[candidate]),
        baseline=list(values[baseline]),
        bests=bests,
        budgets=budgets,
        worst_given=[f"{arm} at {setting}" for arm, found in given.items() for setting in found],
    )


def _setting_values(
    index: Index, arm: str, metric: Metric, settings: Sequence[str], seeds: Sequence[int]
) -> dict[str, float]:
    """Mean over the runs that have a value, of each setting that has one."""
    found = {}
    for setting in settings:
        known = [value_of(index.get((arm, setting, seed)), metric.name) for seed in seeds]
        average = mean([value for value in known if value is not None])
        if average is not None:
            found[setting] = average
    return found


def _worst(
    index: Index,
    values: dict[str, dict[str, float]],
    metric: Metric,
    settings: Sequence[str],
    seeds: Sequence[int],
) -> tuple[float, dict[str, list[str]]]:
    """The worst value there is, and the settings that get it: tried, and every run diverged."""
    seen = [value for of_arm in values.values() for value in of_arm.values()]
    worst = min(seen) if metric.higher_is_better else max(seen)
    if metric.attainable is not None:
        worst = metric.attainable[0 if metric.higher_is_better else 1]
    given: dict[str, list[str]] = {arm: [] for arm in values}
    for arm, known in values.items():
        for setting in settings:
            runs = [index.get((arm, setting, seed)) for seed in seeds]
            if setting not in known and all(run is not None and run.state == "diverged" for run in runs):
                given[arm].append(setting)
    return worst, given


def _groups(
    index: Index, arm: str, settings: Sequence[str], seeds: Sequence[int], metric: Metric
) -> list[list[str]]:
    return [
        [
            run.run_id
            for seed in seeds
            if (run := index.get((arm, setting, seed))) is not None and value_of(run, metric.name) is not None
        ]
        for setting in settings
    ]


def _scored(metric: Metric) -> ScoredMetric:
    if metric.name == "win_rate":
        return "win_rate"
    if metric.name == "length_controlled_win_rate":
        return "length_controlled_win_rate"
    raise ValueError(f"{metric.name} is not scored prompt by prompt")


def _naive(
    candidate: dict[str, float], baseline: dict[str, float], higher_is_better: bool, reason: str
) -> BestDifference:
    def best(values: dict[str, float]) -> BestOfGrid:
        found = list(values.values())
        chosen = found.index(max(found) if higher_is_better else min(found))
        return BestOfGrid(
            settings=len(found),
            chosen=chosen,
            naive=found[chosen],
            corrected=None,
            low=None,
            high=None,
            confidence=0.95,
            draws=0,
            undefined=0,
            share_chosen=[],
            reason=reason,
        )

    ours, theirs = best(candidate), best(baseline)
    assert ours.naive is not None
    assert theirs.naive is not None
    return BestDifference(
        candidate=ours,
        baseline=theirs,
        naive=ours.naive - theirs.naive,
        corrected=None,
        low=None,
        high=None,
        reason=reason,
    )
