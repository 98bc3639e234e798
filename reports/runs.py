"""The table of all runs."""

from __future__ import annotations

from analysis.results import Results
from reports.formats import duration, measure, titled
from reports.lookup import arm_name
from reports.shown import Column, Shown, Table, Whole, state_tag
from reports.text import plural

OPEN_UP_TO = 30  # a longer table starts folded


def run_table(results: Results) -> Table:
    """One row per run with every described metric."""
    rows: list[list[Shown]] = []
    for run in results.runs:
        values = [
            measure(run.metrics.get(metric.name), metric, reason="the run has no value")
            for metric in results.metrics
        ]
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
    return Table(caption, columns, rows)
