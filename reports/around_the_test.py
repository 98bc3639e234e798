"""What stands around the headline test: the guard, variance components, sensitivity, missing runs, the self-check."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.evidence import Inference, MissingRuns
from analysis.results import Metric, Results
from reports.formats import interval, measure, number, p_value
from reports.lookup import metric_named, primary_comparison
from reports.shown import Column, Fact, Missing, Shown, Table

_SHARE_DECIMALS = 3
_ZERO_METHODS = {
    "pratt": "zeros ranked, then left out (Pratt)",
    "wilcox": "zeros left out (Wilcoxon)",
    "zsplit": "ranks of zeros split",
}


@dataclass(frozen=True)
class AroundTheTest:
    """The section's parts."""

    facts: list[Fact]
    sensitivity: Table
    missing: Table | None
    warning: str  # why the pooled test's p is not to be used; "" without one


def around_the_test(results: Results) -> AroundTheTest | None:
    """The section; `None` for results that hold nothing of it."""
    found = primary_comparison(results)
    if found is None or found.inference is None:
        return None
    metric = metric_named(results, results.declared.primary)
    inference = found.inference
    missing = inference.missing
    return AroundTheTest(
        facts=_facts(inference, metric),
        sensitivity=_sensitivity(inference, metric, results.declared.alpha),
        missing=None if missing is None else _missing(missing, metric, results.declared.alpha),
        warning="" if inference.pooled is None else inference.pooled.warning,
    )


def _facts(inference: Inference, metric: Metric) -> list[Fact]:
    crossed, check = inference.crossed, inference.self_check
    reason = crossed.reason or "not defined"
    parts = crossed.components
    facts = [
        Fact(
            "Unit",
            f"{inference.unit.n} {inference.unit.name}s",
            f"shared by all: {'; '.join(inference.unit.shared)}",
        ),
        Fact("Speaks of", inference.unit.population),
    ]
    for name, meaning in (
        ("setting", "the arms differ more at some settings than at others"),
        ("seed", "shared by all settings of a seed"),
        ("run", "what is left: training, decoding and judging of a pair of runs"),
    ):
        value = None if parts is None else getattr(parts, name)
        note = f"{metric.unit} squared; {meaning}" + (
            "; below 0: too small to tell" if (value or 0) < 0 else ""
        )
        facts.append(
            Fact(
                f"Variance between {name}s", number(value, metric.decimals + 1, reason=reason), note.lstrip()
            )
        )
    if inference.improvement is not None:
        share = inference.improvement
        shown = number(share.estimate, _SHARE_DECIMALS, reason=share.reason or "no pair of runs")
        facts.append(
            Fact("Probability of improvement", shown, "that a run of the candidate beats one of the baseline")
        )
    if inference.bayesian is not None:
        bayes = inference.bayesian
        shares = " / ".join(f"{p:.2f}" for p in (bayes.p_below, bayes.p_within, bayes.p_above))
        meaning = f"below / within / above ±{bayes.rope:g} {metric.unit}: posterior probabilities"
        facts.append(Fact("Bayesian signed-rank", shares, meaning))
    if check is not None:
        tried = f"{check.rejected} of {check.flips:,} sign patterns of these differences, nominally {check.alpha:g}"
        facts.append(Fact("False positives of the test here", number(check.rate, _SHARE_DECIMALS), tried))
    return facts


def _sensitivity(inference: Inference, metric: Metric, alpha: float) -> Table:
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
    return Table(f"Sensitivity: {metric.label} by other tests of the same differences", columns, rows)


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
