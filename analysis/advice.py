"""The cheapest next step of a sweep, from its own results and its own run times."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from analysis.evidence import NextSteps
from analysis.next_step import Costs, Design, Spread, rank_next_steps
from analysis.results import Comparison, Declared, RunRow


def advise(
    comparison: Comparison, *, runs: Sequence[RunRow], declared: Declared, prompts: int | None = None
) -> tuple[NextSteps | None, str | None]:
    """Rank one more seed, one more setting, more prompts and judging again by what they bring for their cost.

    Args:
        comparison: the primary one.
        runs: the table of runs; the mean wall time of either arm's finished runs is the cost of a pair.
        declared: arms, alpha and direction.
        prompts: in the evaluation; None: not known.

    Returns:
        The steps, or None and why: variance components need 2 settings and 2 seeds without a gap.
    """
    if comparison.inference is None:
        return None, comparison.test_reason
    crossed = comparison.inference.crossed
    if crossed.components is None:
        return None, crossed.reason
    guard = comparison.inference.guard
    part = None if guard is None else guard.prompt
    hours = [_mean_hours(runs, arm) for arm in (declared.baseline, declared.candidate)]
    pair = None if hours[0] is None or hours[1] is None else hours[0] + hours[1]
    return (
        rank_next_steps(
            Spread(
                components=crossed.components,
                # The part of the prompts that averaging over runs leaves; below 0 is a sign that it is small.
                prompt=None if part is None else max(part.shared, 0.0) * part.prompts,
            ),
            # A setting with a gap is not in the components, but the test has it.
            Design(
                settings=comparison.test.n if comparison.test else crossed.settings,
                seeds=crossed.seeds,
                prompts=prompts if part is None else part.prompts,
            ),
            Costs(unit="hours of one run at a time", pair=pair),
            alpha=declared.alpha,
            alternative=declared.alternative,
        ),
        None,
    )


def _mean_hours(runs: Sequence[RunRow], arm: str) -> float | None:
    times = [run.wall_seconds for run in runs if run.arm == arm and run.state == "done" and run.wall_seconds]
    return fmean(time / 3600 for time in times) if times else None
