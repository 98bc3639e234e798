"""The table of all runs."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.results import Metric, Results, RunRow
from reports.formats import duration, measure, titled
from reports.lookup import arm_name
from reports.shown import Column, Missing, Shown, Table, Whole, beginning, state_tag
from reports.text import plural

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
            Whole(run.run_id),
            arm_name(results, run.arm),
            Whole(run.setting),
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
