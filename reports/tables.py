"""Tidy CSV files for a reader's own analysis: full precision, empty where a value is undefined."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from analysis.results import Results, Value
from reports.files import write_whole
from reports.text import clean

# What a spreadsheet would run as a formula when a cell begins with it (OWASP, "CSV injection").
_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_RUN_COLUMNS = ("run_id", "arm", "setting", "seed", "state", "wall_seconds")


def write_tables(results: Results, folder: str | Path) -> list[Path]:
    """Write `runs.csv`, `cells.csv` and `differences.csv` into a folder and return their paths.

    Strings that begin like a formula get an apostrophe in front; numbers never do.

    Raises:
        ReportError: a file cannot be written.
    """
    folder = Path(folder)
    tables = {"runs.csv": runs_csv, "cells.csv": cells_csv, "differences.csv": differences_csv}
    for name, make in tables.items():
        write_whole(folder / name, make(results))
    return [folder / name for name in tables]


def runs_csv(results: Results) -> str:
    """One row per run: identity, hyperparameters, state, wall time in seconds, every metric."""
    axes = list(
        dict.fromkeys([*results.axes, *(axis for run in results.runs for axis in run.hyperparameters)])
    )
    recorded = (name for run in results.runs for name in run.metrics)
    metrics = list(dict.fromkeys([*(metric.name for metric in results.metrics), *recorded]))
    taken = {*_RUN_COLUMNS, *metrics}
    titles = [f"hyperparameter.{axis}" if axis in taken else axis for axis in axes]
    rows: list[list[Value]] = []
    for run in results.runs:
        row: list[Value] = [run.run_id, run.arm, run.setting, run.seed, run.state, run.wall_seconds]
        row += [run.hyperparameters.get(axis) for axis in axes]
        row += [run.metrics.get(metric) for metric in metrics]
        rows.append(row)
    return _csv([*_RUN_COLUMNS, *titles, *metrics], rows)


def cells_csv(results: Results) -> str:
    """One row per arm, setting and metric: number of runs, mean and SD over seeds (ddof = 1)."""
    rows = ([each.metric, each.setting, each.arm, each.n, each.mean, each.sd] for each in results.cells)
    return _csv(["metric", "setting", "arm", "n", "mean", "sd"], rows)


def differences_csv(results: Results) -> str:
    """One row per metric, setting and seed: candidate minus baseline, beside the setting's n, mean and SD."""
    header = ["metric", "confirmatory", "setting", "seed", "difference"]
    header += ["setting_n", "setting_mean", "setting_sd"]
    rows = (
        [
            comparison.metric,
            comparison.confirmatory,
            each.setting,
            pair.seed,
            pair.value,
            each.n,
            each.mean,
            each.sd,
        ]
        for comparison in results.comparisons
        for each in comparison.differences
        for pair in each.values
    )
    return _csv(header, rows)


def _csv(header: Sequence[str], rows: Iterable[Sequence[Value]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_field(title) for title in header])
    writer.writerows([_field(value) for value in row] for row in rows)
    return text.getvalue()


def _field(value: Value) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float() if math.isnan(value):
            return ""
        case int() | float():
            return repr(value)
        case str():
            # Guarded before it is cleaned: cleaning would hide a leading carriage return from the guard.
            return ("'" if value.startswith(_FORMULA_SIGNS) else "") + clean(value)
