"""The primary comparison within each value of an axis of names, such as the loss."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.findings import SettingGroup
from analysis.results import Metric, Results
from reports.formats import interval, level, measure, p_value, setting_value, titled
from reports.lookup import arm_name, metric_named
from reports.shown import Column, Missing, Shown, Table
from reports.text import shorten


@dataclass(frozen=True)
class Groups:
    """The section: a table per axis."""

    lead: str
    tables: list[Table]


def groups_of(results: Results) -> Groups | None:
    """None where no axis has names for values, and for older files."""
    if not results.groups:
        return None
    axes = dict.fromkeys(group.axis for group in results.groups)
    tables = [
        _table(results, axis, [group for group in results.groups if group.axis == axis]) for axis in axes
    ]
    return Groups(
        lead="Each row is the primary comparison over the settings of that value alone. Exploratory: the declared "
        "test is over all settings.",
        tables=tables,
    )


def _table(results: Results, axis: str, groups: list[SettingGroup]) -> Table:
    metric = metric_named(results, results.declared.primary)
    rows = [_row(group, metric, results.declared.alpha) for group in groups]
    baseline, candidate = (
        arm_name(results, arm) for arm in (results.declared.baseline, results.declared.candidate)
    )
    columns = [
        Column(shorten(axis, 60)),
        Column("Settings", numeric=True),
        Column(baseline, numeric=True),
        Column(candidate, numeric=True),
        Column("Difference", numeric=True),
        Column("Won, lost", numeric=True),
        Column(f"{level(1 - results.declared.alpha)} interval", numeric=True),
        Column("p", numeric=True),
        Column("Adjusted", numeric=True),
    ]
    caption = f"{titled(metric)} by {shorten(axis, 60)}: means over settings and seeds of complete pairs"
    note = (
        "Interval: of the Hodges–Lehmann estimate. p: two-sided; adjusted: Benjamini–Hochberg over the rows. A row "
        "that no outcome could make significant has no p."
    )
    return Table(caption, columns, rows, note)


def _row(group: SettingGroup, metric: Metric, alpha: float) -> list[Shown]:
    nothing = group.reason or "no value"
    testable = group.test is not None and group.reason is None
    return [
        setting_value(group.value),
        f"{group.n} of {len(group.settings)}",
        measure(group.baseline, metric, reason=nothing),
        measure(group.candidate, metric, reason=nothing),
        measure(group.mean, metric, signed=True, reason=nothing),
        f"{group.won}, {group.lost}",
        interval(group.estimate, metric.decimals, reason=nothing),
        p_value(group.test.p_value, alpha) if testable and group.test else Missing(nothing),
        Missing(nothing) if group.adjusted is None else p_value(group.adjusted, alpha),
    ]
