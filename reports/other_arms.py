"""Every arm besides the first candidate, against the baseline on the primary metric."""

from __future__ import annotations

from analysis.results import ArmComparison, Comparison, Metric, Results
from reports.formats import interval, measure, p_value
from reports.lookup import arm_name, metric_named, primary_comparison
from reports.shown import Column, Missing, Shown, Table, Tag

_NONE = "no difference is defined"


def other_arms_of(results: Results) -> Table | None:
    """A row for each arm, the first candidate's for comparison; None where there is no other."""
    if not results.other_arms:
        return None
    declared = results.declared
    metric = metric_named(results, declared.primary)
    rows: list[list[Shown]] = []
    first = primary_comparison(results)
    if first is not None:
        rows.append(_row(results, declared.candidate, True, first, metric))
    rows += [_of(results, each, metric) for each in results.other_arms]
    titles = ["Difference", "Interval", "p", "Adjusted p", "n", "Won / tied / lost"]
    columns = [Column("Arm"), *(Column(title, numeric=True) for title in titles), Column("Status")]
    return Table(
        f"{metric.label}: each arm minus {declared.baseline}",
        columns,
        rows,
        "Adjusted: by Holm over the declared candidates, by Benjamini–Hochberg over the other arms.",
    )


def _of(results: Results, each: ArmComparison, metric: Metric) -> list[Shown]:
    return _row(results, each.candidate, each.declared, each.comparison, metric)


def _row(results: Results, arm: str, is_declared: bool, found: Comparison, metric: Metric) -> list[Shown]:
    alpha, estimate, test = results.declared.alpha, found.estimate, found.test
    adjusted: Shown = Missing("a single comparison is not adjusted")
    if found.adjusted_p is not None:
        adjusted = p_value(found.adjusted_p, alpha)
    status = (
        Tag("confirmatory", "confirmatory")
        if is_declared and found.confirmatory
        else Tag("exploratory", "exploratory")
    )
    return [
        arm_name(results, arm),
        measure(estimate.estimate if estimate else None, metric, signed=True, reason=_NONE),
        interval(estimate, metric.decimals, reason=_NONE),
        p_value(test.p_value, alpha) if test else Missing(found.test_reason or "no test was made"),
        adjusted,
        str(test.n) if test else "0",
        f"{found.won} / {found.tied} / {found.lost}",
        status,
    ]
