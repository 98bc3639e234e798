"""The cheapest next step of a sweep, from its own results and its own run times."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from analysis.evidence import CrossedTest, NextSteps, PromptPart
from analysis.next_step import Costs, Design, Spread, rank_next_steps
from analysis.results import Declared, RunRow


def advise(
    crossed: CrossedTest,
    *,
    settings: int,
    runs: Sequence[RunRow],
    declared: Declared,
    prompts: int | None = None,
    part: PromptPart | None = None,
) -> tuple[NextSteps | None, str | None]:
    """Rank one more seed, one more setting, more prompts and judging again by what they bring for their cost.

    Args:
        crossed: of the primary comparison.
        settings: in its signed-rank test; one with a gap is in there, and not in the variance components.
        runs: the table of runs; the mean wall time of either arm's finished runs is the cost of a pair.
        declared: arms, alpha and direction.
        prompts: in the evaluation; None: not known.
        part: of the variance that comes from the prompts; None: not known.

    Returns:
        The steps, or None and why: variance components need 2 settings and 2 seeds without a gap.
    """
    if crossed.components is None:
        return None, crossed.reason
    hours = [_mean_hours(runs, arm) for arm in (declared.baseline, declared.candidate)]
    pair = None if hours[0] is None or hours[1] is None else hours[0] + hours[1]
    return (
        rank_next_steps(
            Spread(
                components=crossed.components,
                # The part of the prompts that averaging over runs leaves; below 0 is a sign that it is small.
                prompt=None if part is None else max(part.shared, 0.0) * part.prompts,
            ),
            Design(
                settings=settings,
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
