"""Mean and SD per cell: settings down, arms across."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.results import Metric, Results
from reports.formats import mean_sd, titled
from reports.lookup import arm_name, arms_in_order, metric_named
from reports.shown import Column, Missing, Shown, Table, Whole, beginning

MOST = 150  # settings on the page
_WHERE = "tables/cells.csv"


@dataclass(frozen=True)
class Cells:
    """The primary metric's table, and every other one with its label."""

    primary: Table
    others: list[tuple[str, Table]]


def cells_of(results: Results) -> Cells:
    """The tables of all metrics, in the results' order."""
    others = [metric for metric in results.metrics if metric.name != results.declared.primary]
    return Cells(
        primary=beginning(cell_table(results, metric_named(results, results.declared.primary)), MOST, _WHERE),
        others=[(metric.label, beginning(cell_table(results, metric), MOST, _WHERE)) for metric in others],
    )


def cell_table(results: Results, metric: Metric) -> Table:
    """One metric: mean ± SD (n) per arm, and the paired difference of candidate and baseline."""
    cells = {(each.arm, each.setting): each for each in results.cells if each.metric == metric.name}
    comparison = next((each for each in results.comparisons if each.metric == metric.name), None)
    differences = {each.setting: each for each in comparison.differences} if comparison else {}
    arms = arms_in_order(results)
    rows: list[list[Shown]] = []
    for setting in results.settings:
        row: list[Shown] = [Whole(setting)]
        for arm in arms:
            cell = cells.get((arm, setting))
            row.append(
                mean_sd(cell.mean, cell.sd, cell.n, metric)
                if cell
                else Missing("no such cell in the results")
            )
        difference = differences.get(setting)
        if comparison:
            row.append(
                mean_sd(difference.mean, difference.sd, difference.n, metric, signed=True)
                if difference
                else Missing("no complete pair of runs")
            )
        rows.append(row)
    columns = [Column("Setting"), *(Column(arm_name(results, arm), numeric=True) for arm in arms)]
    if comparison:
        columns.append(Column("Difference", numeric=True))
    caption = f"{titled(metric)}: mean ± SD over seeds (number of runs; of pairs for the difference)"
    return Table(caption, columns, rows)
