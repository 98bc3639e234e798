"""What a sweep like this one can find, and what to add to it: the cheapest step first."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.document import Results
from analysis.results.model import Action, Metric, NextSteps, Power, Step
from reports.render.cells import Column, Missing, NoWrap, Shown, Table
from reports.render.formats import decimal, exact_p, metric_named, number, with_unit
from reports.render.text import plural, shorten

_WORDS: dict[Action, str] = {
    "seed": "seed for every setting",
    "setting": "setting with all its seeds",
    "prompts": "prompt",
    "judging": "judging of every answer",
}


@dataclass(frozen=True)
class Next:
    """The section: tables that these results have, and sentences."""

    lead: str
    steps: Table | None
    power: Table | None
    notes: list[str]


def next_of(results: Results) -> Next | Missing | None:
    """The section; None for results of before there was one."""
    steps, power = results.next_steps, results.power
    if steps is None and not power:
        reason = results.next_steps_reason
        return Missing(f"Cannot be told yet: {shorten(reason, 300)}.") if reason else None
    metric = metric_named(results, results.declared.primary)
    return Next(
        lead=_lead(steps, metric)
        if steps
        else f"Next step: not known ({results.next_steps_reason or 'no reason'}).",
        steps=_steps(steps, metric) if steps else None,
        power=_power(power, metric) if power else None,
        notes=[steps.warning] if steps and steps.warning else [],
    )


def _lead(steps: NextSteps, metric: Metric) -> str:
    now = _text(decimal(steps.standard_error, metric.decimals + 1), metric)
    best = next((step for step in steps.steps if step.reduction_per_cost is not None), None)
    if best is None or best.standard_error is None:
        return f"The mean difference has a standard error of {now}; what a step would bring for its cost is not known."
    after = _text(decimal(best.standard_error, metric.decimals + 1), metric)
    cost = decimal(best.cost or 0, 2)
    return (
        f"Cheapest: {_named(best)}, for about {cost} {steps.unit}. It would bring the standard error of the mean "
        f"difference from {now} to {after}."
    )


def _text(text: str, metric: Metric) -> str:
    """A number with the metric's unit."""
    return f"{text} {metric.unit}".strip()


def _named(step: Step) -> str:
    noun = _WORDS[step.action]
    return f"{step.amount} more {noun}" if step.amount == 1 else plural(step.amount, f"more {noun}")


def _steps(steps: NextSteps, metric: Metric) -> Table:
    rows: list[list[Shown]] = []
    digits = metric.decimals + 1
    for step in steps.steps:
        reason = step.reason or "not known"
        per_cost = step.reduction_per_cost
        rows.append(
            [
                NoWrap(_named(step)),
                number(step.standard_error, digits, reason=reason),
                number(
                    None if step.reduction is None else -step.reduction, digits, signed=True, reason=reason
                ),
                number(step.cost, 2, reason=reason),
                number(per_cost, digits, reason=reason),
                exact_p(step.smallest_p),
            ]
        )
    unit = f" ({metric.unit})" if metric.unit else ""
    titles = [
        f"SE after it{unit}",
        "Change",
        f"Cost ({steps.unit})",
        "Reduction per cost",
        "Smallest p after it",
    ]
    columns = [Column("Step"), *(Column(title, numeric=True) for title in titles)]
    return Table("What a step would bring, the cheapest first", columns, rows)


def _power(found: list[Power], metric: Metric) -> Table:
    rows: list[list[Shown]] = [
        [
            with_unit(decimal(each.effect, max(metric.decimals, 1)), metric),
            Missing(each.reason) if each.reason else f"{100 * each.power:.0f}%",
            Missing("not in this file") if each.verdict is None else f"{100 * each.verdict:.0f}%",
        ]
        for each in found
    ]
    first = found[0]
    note = (
        f"By simulation ({first.simulations:,} sweeps): signed-rank test at α = {exact_p(first.alpha)}, and the "
        "verdict, which needs the generalization test too (without the variance between prompts), with the "
        f"SDs measured here: run {decimal(first.run_sd, metric.decimals + 1)}, "
        f"setting {decimal(first.setting_sd, metric.decimals + 1)}, "
        f"seed {decimal(first.seed_sd, metric.decimals + 1)}. "
        "It describes the next sweep of this size. It says nothing about this sweep's result."
    )
    title = f"A new sweep of {plural(first.settings, 'setting')} × {plural(first.seeds, 'seed')}: how often it rejects"
    return Table(
        title,
        [
            Column("True difference"),
            Column("Signed-rank test", numeric=True),
            Column("Verdict", numeric=True),
        ],
        rows,
        note,
    )
