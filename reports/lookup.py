"""Finding things in a `Results`: metrics by name, arms in the order they are shown, comparisons."""

from __future__ import annotations

from analysis.results import Comparison, Metric, Results
from reports.shown import ArmName

# Colours and dashes that the style sheet tells apart; further arms start over.
ARM_STYLES = 6


def metric_named(results: Results, name: str) -> Metric:
    """The metric of that name; a plain one when the results do not describe it."""
    for metric in results.metrics:
        if metric.name == name:
            return metric
    return Metric(name=name, label=name, unit="", decimals=3, higher_is_better=None)


def arms_in_order(results: Results) -> list[str]:
    """Baseline first, candidate second, then the other arms as they were declared."""
    declared = [results.declared.baseline, results.declared.candidate]
    return list(dict.fromkeys([*declared, *results.arms]))


def arm_style(results: Results, arm: str) -> int:
    """The number of the arm's style class."""
    order = arms_in_order(results)
    return order.index(arm) % ARM_STYLES if arm in order else ARM_STYLES - 1


def arm_name(results: Results, arm: str) -> ArmName:
    """The arm's name, with its mark."""
    return ArmName(arm, arm_style(results, arm))


def reference_name(results: Results) -> str:
    """What answers were judged against."""
    return results.evaluation.baseline if results.evaluation else "not recorded"


def primary_comparison(results: Results) -> Comparison | None:
    """The comparison on the declared primary metric."""
    found = (each for each in results.comparisons if each.metric == results.declared.primary)
    return next(found, None)


def is_confirmatory(results: Results) -> bool:
    """Whether the primary comparison was declared before the results and has not changed since."""
    primary = primary_comparison(results)
    return primary is not None and primary.confirmatory and not results.declaration_changed
