"""The cheapest next step: one more seed, one more setting, more prompts or judging again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from analysis.planning.power import smallest_p
from analysis.results.model import (
    Action,
    Alternative,
    CrossedTest,
    Declared,
    Frozen,
    NextSteps,
    PromptPart,
    RunRow,
    Step,
    VarianceComponents,
)
from analysis.results.values import State


class Design(Frozen):
    """How much there is of everything."""

    settings: int
    seeds: int
    prompts: int | None = None  # None: not known, or the metric has none
    judgings: int = 1  # of each answer


class Spread(Frozen):
    """Variances of the difference between two arms, in the metric's unit squared."""

    components: VarianceComponents  # of settings, seeds and runs: `crossed_test`
    prompt: float | None = (
        None  # of one prompt: paired bootstrap SE^2 times the number of prompts; None: not known
    )
    judging: float | None = (
        None  # of judging one pair of runs once: half the variance of two judgings' difference
    )


class Costs(Frozen):
    """Cost of each step, all in one unit; None: not known."""

    unit: str  # e.g. "GPU-hours" or "dollars"
    pair: float | None  # both arms at one setting and seed: training, answers and judgements
    prompt: float | None = None  # answers of both arms to one more prompt at one setting and seed, judged
    judging: float | None = None  # judging both arms' answers at one setting and seed once more


def rank_next_steps(
    spread: Spread,
    design: Design,
    costs: Costs,
    *,
    more_prompts: int = 100,
    alpha: float = 0.05,
    alternative: Alternative = "two-sided",
) -> NextSteps:
    """Rank what could be added to a sweep by how much it lowers the standard error for its cost.

    With K settings, S seeds, P prompts and J judgings, SE^2 = setting / K + seed / S + run(J) / (K S) + prompt / P and
    run(J) = run - judging / J_now + judging / J. Components that came out negative count as 0. More prompts also calm
    the runs themselves, by an amount that is not known here, so their benefit is a lower bound.

    Args:
        spread: variances, as estimated from the results so far.
        design: what there is.
        costs: of each kind of step.
        more_prompts: how many prompts to add at a time, at least 1.
        alpha: level that the test over settings must be able to reach.
        alternative: of that test.

    Raises:
        ValueError: a count below 1, a variance that is negative or not finite where it cannot be, a cost not above 0.

    Source: variance of a mean in the two-way random model, as in Brennan (2001), Generalizability Theory (decision
    studies).
    """
    _check(spread, design, costs, more_prompts)

    def error(settings: int, seeds: int, prompts: int | None, judgings: int) -> float:
        setting, seed, run = (
            max(0.0, variance)
            for variance in (spread.components.setting, spread.components.seed, spread.components.run)
        )
        if spread.judging is not None:
            run = max(0.0, run - spread.judging / design.judgings) + spread.judging / judgings
        variance = setting / settings + seed / seeds + run / (settings * seeds)
        if spread.prompt is not None and prompts is not None:
            variance += spread.prompt / prompts
        return math.sqrt(variance)

    k, s, p, j = design.settings, design.seeds, design.prompts, design.judgings
    now = error(k, s, p, j)
    steps = []
    plans: list[tuple[Action, int, tuple[int, int, int | None, int], float | None, str | None]] = [
        ("seed", 1, (k, s + 1, p, j), _times(costs.pair, k), None),
        ("setting", 1, (k + 1, s, p, j), _times(costs.pair, s), None),
        (
            "prompts",
            more_prompts,
            (k, s, None if p is None else p + more_prompts, j),
            _times(costs.prompt, more_prompts * k * s),
            "the variance between prompts is not known: run the paired bootstrap"
            if spread.prompt is None or p is None
            else None,
        ),
        (
            "judging",
            1,
            (k, s, p, j + 1),
            _times(costs.judging, k * s),
            "the judge's noise is not known: judge some runs twice" if spread.judging is None else None,
        ),
    ]
    for action, amount, after, cost, unknown in plans:
        then = None if unknown else error(*after)
        reduction = None if then is None else now - then
        steps.append(
            Step(
                action=action,
                amount=amount,
                standard_error=then,
                reduction=reduction,
                cost=cost,
                reduction_per_cost=None if reduction is None or cost is None else reduction / cost,
                smallest_p=smallest_p(after[0], alternative),
                reason=unknown or ("its cost is not known" if cost is None else None),
            )
        )
    steps.sort(key=lambda step: math.inf if step.reduction_per_cost is None else -step.reduction_per_cost)
    warning = None
    if (reached := smallest_p(k, alternative)) > alpha:
        warning = f"{k} settings cannot reach alpha = {alpha:g} (smallest p {reached:.4g}): only settings help there"
    return NextSteps(standard_error=now, unit=costs.unit, steps=steps, warning=warning)


def _times(cost: float | None, number: int) -> float | None:
    return None if cost is None else cost * number


def _check(spread: Spread, design: Design, costs: Costs, more_prompts: int) -> None:
    counts = [design.settings, design.seeds, design.judgings, more_prompts]
    if design.prompts is not None:
        counts.append(design.prompts)
    if min(counts) < 1:
        raise ValueError(f"counts must be at least 1, got {design} and more_prompts={more_prompts}")
    for name, variance in (
        ("run", spread.components.run),
        ("prompt", spread.prompt),
        ("judging", spread.judging),
    ):
        if variance is not None and not 0 <= variance < math.inf:
            raise ValueError(f"the {name} variance must be at least 0 and finite, got {variance}")
    for name, cost in (("pair", costs.pair), ("prompt", costs.prompt), ("judging", costs.judging)):
        if cost is not None and not 0 < cost < math.inf:
            raise ValueError(f"the cost of a {name} must be above 0, got {cost}")


# The cheapest next step of a sweep, from its own results and its own run times.


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
            Costs(unit="sequential run-hours", pair=pair),
            alpha=declared.alpha,
            alternative=declared.alternative,
        ),
        None,
    )


def _mean_hours(runs: Sequence[RunRow], arm: str) -> float | None:
    times = [
        run.wall_seconds for run in runs if run.arm == arm and run.state == State.DONE and run.wall_seconds
    ]
    return fmean(time / 3600 for time in times) if times else None
