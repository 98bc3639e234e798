"""The CSV files against the results: every row, full precision, and what a spreadsheet would run."""

from __future__ import annotations

import csv
import io

import pytest

from analysis.document import Results
from reports.render.csv import CSV_TABLES
from tests.analysis.analysis_examples import analyse
from tests.reports.sample_results import changed, make_results


def read(results: Results, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO("".join(CSV_TABLES[name][1](results)), newline="")))


def written(value: object) -> str:
    return "" if value is None else repr(value)


@pytest.fixture(scope="module")
def analysed() -> Results:
    """The sample's runs with everything that the analysis finds around the primary test."""
    made = make_results()
    found = analyse(
        runs=made.runs,
        declared=made.declared,
        metrics=made.metrics,
        settings=made.settings,
        seeds=made.seeds,
        arms=list(made.arms),
    )
    return changed(
        made, {"comparisons": list(found.comparisons), "cells": list(found.cells), "other_arms": []}
    )


def test_runs_hold_every_run_unrounded(results: Results) -> None:
    """Checks runs.csv: keys, axes as columns, every metric to the last digit, why a run has none."""
    rows = read(results, "runs.csv")
    assert len(rows) == len(results.runs) == 24
    for row, run in zip(rows, results.runs, strict=True):
        assert (row["run_id"], row["arm"], row["setting"]) == (run.run_id, run.arm, run.setting)
        assert (row["seed"], row["state"]) == (str(run.seed), run.state)
        assert {axis: float(row[axis]) for axis in results.axes} == run.hyperparameters
        assert {name: row[name] for name in run.metrics} == {
            name: written(value) for name, value in run.metrics.items()
        }
    (failed,) = [row for row in rows if row["state"] == "failed"]
    assert failed["reason"] == results.failures[0].reason


def test_cells_and_differences_are_complete(results: Results) -> None:
    """Checks cells.csv and differences.csv: a row for each cell and for each planned pair of each comparison."""
    for row, cell in zip(read(results, "cells.csv"), results.cells, strict=True):
        assert (row["metric"], row["arm"], row["mean"]) == (cell.metric, cell.arm, written(cell.mean))
        assert row["sd"] == written(cell.sd)
    pairs = [pair for found in results.comparisons for each in found.differences for pair in each.values]
    rows = read(results, "differences.csv")
    assert [row["difference"] for row in rows] == [written(pair.value) for pair in pairs]
    assert {row["confirmatory"] for row in rows} == {"true", "false"}
    assert {(row["candidate"], row["baseline"]) for row in rows} == {("adadpo", "dpo")}


def test_comparisons_hold_test_and_interval(analysed: Results) -> None:
    """Checks comparisons.csv against the tests and intervals of every metric."""
    for row, found in zip(read(analysed, "comparisons.csv"), analysed.comparisons, strict=True):
        assert found.test is not None
        assert found.estimate is not None
        assert float(row["p_value"]) == found.test.p_value
        assert float(row["w_plus"]) == found.test.w_plus
        assert [float(row[name]) for name in ("estimate", "low", "high")] == [
            found.estimate.estimate,
            found.estimate.low,
            found.estimate.high,
        ]
        assert (row["won"], row["lost"]) == (str(found.won), str(found.lost))


def test_sensitivity_holds_every_other_test(analysed: Results) -> None:
    """Checks sensitivity.csv: the crossed test, the rules for missing runs and the pooled test of the primary."""
    primary = analysed.comparisons[0]
    assert primary.inference is not None
    assert primary.inference.missing is not None
    rows = {row["test"]: row for row in read(analysed, "sensitivity.csv") if row["metric"] == primary.metric}
    crossed = rows["crossed settings and seeds, t"]
    assert crossed["p_value"] == written(primary.inference.crossed.p_value)
    for rule in primary.inference.missing.rules:
        row = rows[f"missing runs: {rule.rule}"]
        assert row["p_value"] == written(rule.test and rule.test.p_value)
        assert (row["p_value"] == "") == bool(row["reason"])
    assert rows["all pairs pooled (descriptive)"]["reason"].startswith("descriptive")


def test_curves_are_long(results: Results) -> None:
    """Checks curves.csv: one row for each logged value."""
    rows = read(results, "curves.csv")
    assert len(rows) == sum(len(curve.steps) for curve in results.curves)
    assert rows[0]["value"] == written(results.curves[0].values[0])


def test_axis_named_like_a_metric_keeps_both(results: Results) -> None:
    """Checks that an axis that shares a metric's name gets a column of its own."""
    runs = [run.model_copy(update={"hyperparameters": {"win_rate": 1}}) for run in results.runs]
    header = list(read(results.model_copy(update={"runs": runs, "axes": {"win_rate": [1]}}), "runs.csv")[0])
    assert "hyperparameter.win_rate" in header
    assert header.count("win_rate") == 1


def test_strings_are_guarded_and_numbers_are_not(results: Results) -> None:
    """Checks cells that a spreadsheet would run: strings get an apostrophe, negative numbers do not."""
    signs = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "＝1", "'=1", "''-2", "plain", "it's"]
    runs = [
        run.model_copy(update={"arm": sign, "metrics": {"win_rate": -1.5, "=x": -0.25}})
        for run, sign in zip(results.runs, signs, strict=False)
    ]
    rows = read(results.model_copy(update={"runs": runs}), "runs.csv")
    arms = [row["arm"] for row in rows]
    assert all(arm.startswith("'") for arm in arms[:9])
    # one more apostrophe than before, so that the name can be told again
    assert [arms[0], *arms[7:]] == ["'=1+1", "''=1", "'''-2", "plain", "it's"]
    assert {row["win_rate"] for row in rows} == {"-1.5"}
    assert {row["'=x"] for row in rows} == {"-0.25"}


def test_a_value_without_meaning_is_empty(results: Results) -> None:
    """Checks that an undefined number is an empty field, not a 0 and not a word."""
    runs = [results.runs[0].model_copy(update={"metrics": {"win_rate": float("nan"), "kl": None}})]
    row = read(results.model_copy(update={"runs": runs}), "runs.csv")[0]
    assert (row["win_rate"], row["kl"], row["length_controlled_win_rate"]) == ("", "", "")
