"""Sensitivity: the headline's question asked in other ways; only the headline is declared."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.evidence import Inference, MissingRuns
from analysis.results import Metric, Results
from reports.formats import interval, measure, p_value
from reports.lookup import metric_named, primary_comparison
from reports.shown import Column, Missing, Shown, Table

_ZERO_METHODS = {
    "pratt": "zeros ranked, then left out (Pratt)",
    "wilcox": "zeros left out (Wilcoxon)",
    "zsplit": "ranks of zeros split",
}


@dataclass(frozen=True)
class Sensitivity:
    """The section's parts."""

    tests: Table
    warning: str  # why the pooled test's p is not to be used; "" without one
    missing: Table | None


def sensitivity_of(results: Results) -> Sensitivity | None:
    """The section; `None` for results that hold nothing of it."""
    found = primary_comparison(results)
    if found is None or found.inference is None:
        return None
    metric = metric_named(results, results.declared.primary)
    inference = found.inference
    missing = inference.missing
    return Sensitivity(
        tests=_tests(inference, metric, results.declared.alpha),
        warning="" if inference.pooled is None else inference.pooled.warning,
        missing=None if missing is None else _missing(missing, metric, results.declared.alpha),
    )


def _tests(inference: Inference, metric: Metric, alpha: float) -> Table:
    """The same question asked in other ways; only the headline is declared."""
    rows: list[list[Shown]] = [
        [f"Signed-rank over settings, {_ZERO_METHODS[name]}", "–", p_value(test.p_value, alpha), str(test.n)]
        for name, test in inference.zero_methods.items()
    ]
    crossed = inference.crossed
    reason = crossed.reason or "not defined"
    rows.append(
        [
            "Crossed settings and seeds, t (the guard)",
            interval(crossed.interval, metric.decimals, reason=reason),
            Missing(reason) if crossed.p_value is None else p_value(crossed.p_value, alpha),
            f"{crossed.settings} × {crossed.seeds}",
        ]
    )
    if inference.settings_won is not None:
        won = inference.settings_won
        n = won.won + won.tied + won.lost
        rows.append(["Sign test over settings (descriptive)", "–", p_value(won.p_value, alpha), str(n)])
    if inference.pooled is not None:
        test = inference.pooled.test
        rows.append(
            ["All setting × seed pairs, pooled (not valid)", "–", p_value(test.p_value, alpha), str(test.n)]
        )
    if inference.equivalence is not None:
        found = inference.equivalence
        p = found.p_value
        rows.append(
            [
                f"Equivalence within ±{found.margin:g} {metric.unit}, two one-sided tests",
                interval(found.interval, metric.decimals, reason=found.reason or "no interval"),
                Missing(found.reason or "not defined") if p is None else p_value(p, found.alpha),
                str(inference.unit.n),
            ]
        )
    columns = [
        Column("Test"),
        Column("Interval", numeric=True),
        Column("p", numeric=True),
        Column("n", numeric=True),
    ]
    return Table(f"{metric.label} by other tests and units", columns, rows)


def _missing(missing: MissingRuns, metric: Metric, alpha: float) -> Table:
    """The headline under each rule for runs that are missing."""
    rows: list[list[Shown]] = []
    for rule in missing.rules:
        reason = rule.reason or "not defined"
        estimate = (
            Missing(reason) if rule.estimate is None else measure(rule.estimate.estimate, metric, signed=True)
        )
        rows.append(
            [
                rule.rule,
                estimate,
                interval(rule.estimate, metric.decimals, reason=reason),
                Missing(reason) if rule.test is None else p_value(rule.test.p_value, alpha),
                str(len(rule.filled)),
                str(rule.left_out),
            ]
        )
    failed = missing.failures
    note = (
        f"Runs that {' or '.join(failed.states)}: candidate {failed.candidate}, baseline {failed.baseline} of "
        f"{failed.pairs} pairs (exact McNemar {p_value(failed.p_value, alpha)})."
    )
    columns = [
        Column("Rule"),
        Column("Estimate", numeric=True),
        Column("Interval", numeric=True),
        Column("p", numeric=True),
        Column("Runs filled in", numeric=True),
        Column("Pairs left out", numeric=True),
    ]
    return Table("Runs that are missing: the headline under each rule", columns, rows, note)
