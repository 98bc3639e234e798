"""Sensitivity: the headline's question asked in other ways; only the headline is declared."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.document import Results
from analysis.results.model import Inference, Metric, MissingRuns
from reports.render.cells import Column, Missing, Shown, Table
from reports.render.formats import arm_name, interval, measure, metric_named, p_value, primary_comparison

_ZERO_METHODS = {
    "pratt": "zeros ranked, then left out (Pratt)",
    "wilcox": "zeros left out (Wilcoxon)",
    "zsplit": "ranks of zeros split",
}
_NO_INTERVAL = Missing("this test comes without an interval")
_FORMULAS = {"win_rate": "raw win rate, not controlled for length"}


@dataclass(frozen=True)
class Sensitivity:
    """The section's parts."""

    tests: Table
    warning: str  # why the pooled test's p is not to be used; "" without one
    missing: Table | None
    formulas: Table | None


def sensitivity_of(results: Results) -> Sensitivity | None:
    """The section; `None` for results that hold nothing of it."""
    found = primary_comparison(results)
    if found is None or found.inference is None:
        return None
    metric = metric_named(results, results.declared.primary)
    inference = found.inference
    missing = inference.missing
    others = len(results.lc_sensitivity) > 1
    return Sensitivity(
        tests=_tests(inference, metric, results.declared.alpha),
        warning="" if inference.pooled is None else inference.pooled.warning,
        missing=None if missing is None else _missing(missing, metric, results.declared.alpha),
        formulas=_formulas(results) if others else None,
    )


def _tests(inference: Inference, metric: Metric, alpha: float) -> Table:
    """The same question asked in other ways; only the headline is declared."""
    rows: list[list[Shown]] = [
        [
            f"Signed-rank over settings, {_ZERO_METHODS[name]}",
            _NO_INTERVAL,
            p_value(test.p_value, alpha),
            str(test.n),
        ]
        for name, test in inference.zero_methods.items()
    ]
    generalization, crossed = inference.generalization, inference.crossed
    if generalization is not None:
        reason = generalization.reason or "not defined"
        prompts = "" if generalization.prompt is None else f" × {generalization.prompt.prompts}"
        rows.append(
            [
                f"Settings, seeds{' and prompts' if prompts else ''} as samples (the verdict needs this test)",
                interval(generalization.interval, metric.decimals, reason=reason),
                Missing(reason) if generalization.p_value is None else p_value(generalization.p_value, alpha),
                f"{generalization.settings} × {generalization.seeds}{prompts}",
            ]
        )
    reason = crossed.reason or "not defined"
    rows.append(
        [
            "Crossed settings and seeds, t with Satterthwaite's degrees of freedom",
            interval(crossed.interval, metric.decimals, reason=reason),
            Missing(reason) if crossed.p_value is None else p_value(crossed.p_value, alpha),
            f"{crossed.settings} × {crossed.seeds}",
        ]
    )
    if inference.settings_won is not None:
        won = inference.settings_won
        n = won.won + won.tied + won.lost
        rows.append(
            ["Sign test over settings (descriptive)", _NO_INTERVAL, p_value(won.p_value, alpha), str(n)]
        )
    if inference.pooled is not None:
        test = inference.pooled.test
        rows.append(
            [
                "All setting × seed pairs, pooled (not valid)",
                _NO_INTERVAL,
                p_value(test.p_value, alpha),
                str(test.n),
            ]
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


def _formulas(results: Results) -> Table:
    """The comparison under each formula of length control, and by the raw win rate."""
    declared = results.declared
    lc, wr = (metric_named(results, name) for name in ("length_controlled_win_rate", "win_rate"))
    arms = (declared.baseline, declared.candidate)
    rows: list[list[Shown]] = []
    for each in results.lc_sensitivity:
        metric = wr if each.method == "win_rate" else lc
        reason = each.reason or "no run has a value"
        found = each.comparison
        estimate = found.estimate if found else None
        rows.append(
            [
                (each.method, " (the sweep's own)") if each.own else _FORMULAS.get(each.method, each.method),
                *(measure(each.means.get(arm), metric, reason=reason) for arm in arms),
                measure(estimate.estimate if estimate else None, metric, signed=True, reason=reason),
                interval(estimate, metric.decimals, reason=reason),
                p_value(found.test.p_value, declared.alpha) if found and found.test else Missing(reason),
                str(each.runs),
            ]
        )
    titles: list[Shown] = [*(arm_name(results, arm) for arm in arms), "Difference", "Interval", "p", "Runs"]
    return Table(
        f"{lc.label} by other formulas (lc_method), {lc.unit}",
        [Column("Formula"), *(Column(title, numeric=True) for title in titles)],
        rows,
        "Means over runs that count. Values of unlike formulas are never pooled: compare within a row only. "
        "length_controlled_v1 was made for AlpacaEval's prompts, judge and baseline.",
    )
