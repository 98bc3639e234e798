"""The table of all runs."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.document import Results
from analysis.results.model import Metric, RunRow
from reports.render.cells import Column, Missing, NoWrap, Shown, Table, beginning, state_tag
from reports.render.formats import arm_name, arms_in_order, duration, mean_sd, measure, metric_named, titled
from reports.render.text import plural

OPEN_UP_TO = 30  # a longer table starts folded
MOST = 400  # rows on the page


@dataclass(frozen=True)
class Runs:
    """The table, and whether it starts unfolded."""

    table: Table
    open: bool


def runs_of(results: Results) -> Runs | Missing:
    """The section."""
    if not results.runs:
        return Missing("There is no run yet.")
    table = beginning(run_table(results), MOST, "tables/runs.csv")
    return Runs(table, len(results.runs) <= OPEN_UP_TO)


def run_table(results: Results) -> Table:
    """One row per run with every described metric."""
    rows: list[list[Shown]] = []
    for run in results.runs:
        values = [_value(run, metric) for metric in results.metrics]
        row: list[Shown] = [
            NoWrap(run.run_id),
            arm_name(results, run.arm),
            NoWrap(run.setting),
            str(run.seed),
            state_tag(run.state),
        ]
        rows.append([*row, *values, duration(run.wall_seconds)])
    columns = [Column("Run"), Column("Arm"), Column("Setting"), Column("Seed", numeric=True), Column("State")]
    columns += [Column(titled(metric), numeric=True) for metric in results.metrics]
    columns.append(Column("Wall time", numeric=True))
    caption = f"{plural(len(rows), 'run')}, in the order of the plan"
    with_error = any(metric.standard_error for metric in results.metrics)
    return Table(caption, columns, rows, "±: standard error over prompts." if with_error else "")


def _value(run: RunRow, metric: Metric) -> Shown:
    value = run.metrics.get(metric.name)
    shown = measure(value, metric, reason="the run has no value")
    if value is None or metric.standard_error is None:
        return shown
    error = run.metrics.get(metric.standard_error)
    return (
        shown,
        " ± ",
        measure(error, metric, reason="too few responses, or no value in too many draws of them"),
    )


# Mean and SD per cell: settings down, arms across.

MOST_CELLS = 150  # settings on the page
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
        primary=beginning(
            cell_table(results, metric_named(results, results.declared.primary)), MOST_CELLS, _WHERE
        ),
        others=[
            (metric.label, beginning(cell_table(results, metric), MOST_CELLS, _WHERE)) for metric in others
        ],
    )


def cell_table(results: Results, metric: Metric) -> Table:
    """One metric: mean ± SD (n) per arm, and the paired difference of candidate and baseline."""
    cells = {(each.arm, each.setting): each for each in results.cells if each.metric == metric.name}
    comparison = next((each for each in results.comparisons if each.metric == metric.name), None)
    differences = {each.setting: each for each in comparison.differences} if comparison else {}
    arms = arms_in_order(results)
    rows: list[list[Shown]] = []
    for setting in results.settings:
        row: list[Shown] = [NoWrap(setting)]
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
