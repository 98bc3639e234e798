"""Who judged the responses: the declared judge beside those that judged them again, and what the gate noted."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.results import Judgement, Results
from reports.formats import interval, measure, number, p_value, titled
from reports.lookup import arm_name, arms_in_order, metric_named
from reports.shown import Column, Missing, Shown, Table, Tag, Whole
from reports.text import plural

_FACTS = {
    "answers_asked": ("answers asked for", 0),
    "answers_cached": ("answers from the cache", 0),
    "requests": ("requests", 0),
    "dollars": ("dollars charged to the sweep", 2),
    "truncated_pairs": ("pairs cut for the reward model", 0),
    "missing": ("pairs without a preference", 0),
    "position_bias_estimate": ("position bias (preference for the answer shown first, minus 0.5)", 3),
    "position_bias_consistency": ("same preference in both orders (share)", 3),
    "noise_within_pair_sd": ("judge's own noise (SD of a preference judged again)", 3),
    "noise_win_rate_sd": ("of which in a run's win rate (points)", 2),
}


@dataclass(frozen=True)
class Judgements:
    """The section's parts; empty tables have no rows."""

    table: Table
    judging: Table
    notes: Table


def judgements_of(results: Results) -> Judgements | None:
    """The section; `None` where one judge judged once and nothing was noted."""
    notes = _notes(results)
    judging = _judging(results)
    if len(results.judgements) < 2 and not judging.rows and not notes.rows:
        return None
    return Judgements(_table(results), judging, notes)


def _table(results: Results) -> Table:
    metric = metric_named(results, results.declared.primary)
    arms = [arm for arm in arms_in_order(results) if arm in results.arms]
    rates = [each for each in results.metrics if each.name in ("win_rate", "length_controlled_win_rate")]
    rows: list[list[Shown]] = []
    for each in results.judgements:
        reason = each.reason or "no run has a value"
        row: list[Shown] = [
            Whole(each.judge),
            each.lc_method,
            Tag("confirmatory", "declared") if each.declared else Tag("exploratory", "judged again"),
            str(each.counts.get("done", 0)),
        ]
        for rate in rates:
            row += [measure(each.means.get(arm, {}).get(rate.name), rate, reason=reason) for arm in arms]
        rows.append([*row, *_difference(each, metric.decimals, results.declared.alpha, reason)])
    columns = [Column("Judge"), Column("LC method"), Column(""), Column("Runs", numeric=True)]
    columns += [
        Column((rate.label, ": ", arm_name(results, arm)), numeric=True) for rate in rates for arm in arms
    ]
    columns += [
        Column(("Difference, ", titled(metric)), numeric=True),
        Column("Interval", numeric=True),
        Column("p", numeric=True),
    ]
    note = "Mean over the runs that count. Judges and LC methods are never pooled; only the declared one is tested."
    return Table("The same responses under each judge", columns, rows, note)


def _difference(each: Judgement, decimals: int, alpha: float, reason: str) -> list[Shown]:
    found = each.comparison
    if found is None or found.estimate is None:
        return [Missing(reason)] * 3
    p: Shown = (
        p_value(found.test.p_value, alpha) if found.test else Missing(found.test_reason or "there is no test")
    )
    return [number(found.estimate.estimate, decimals, signed=True), interval(found.estimate, decimals), p]


def _judging(results: Results) -> Table:
    rows: list[list[Shown]] = []
    for each in results.judgements:
        for name, (label, decimals) in _FACTS.items():
            value = each.judging.get(name)
            if (
                isinstance(value, int | float)
                and not isinstance(value, bool)
                and (name != "missing" or value)
            ):
                rows.append([Whole(each.judge), label, number(float(value), decimals)])
    columns = [Column("Judge"), Column("What"), Column("Value", numeric=True)]
    return Table("How judging went, over all runs", columns, rows)


def _notes(results: Results) -> Table:
    rows: list[list[Shown]] = [
        [
            Whole(run.run_id),
            arm_name(results, run.arm),
            Whole(run.setting),
            str(run.seed),
            "; ".join(run.flags),
        ]
        for run in results.runs
        if run.flags and run.state == "done"
    ]
    columns = [Column("Run"), Column("Arm"), Column("Setting"), Column("Seed", numeric=True), Column("Note")]
    return Table(f"{plural(len(rows), 'run')} that count, with a note of the integrity check", columns, rows)
