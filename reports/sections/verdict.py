"""The top of the page: the verdict, and what had been declared before there were results."""

from __future__ import annotations

import re
from dataclasses import dataclass

from analysis.document import Results
from analysis.results.model import Alternative
from reports.render.cells import Fact, Missing, Shown, Tag
from reports.render.formats import (
    arm_name,
    decimal,
    exact_p,
    interval,
    is_confirmatory,
    level,
    measure,
    metric_named,
    p_value,
    primary_comparison,
    with_unit,
)
from reports.render.text import plural

_BADGES = {
    "better": ("▲", "{candidate} better"),
    "worse": ("▼", "{candidate} worse"),
    "equivalent": ("≈", "Practically equivalent"),
    "inconclusive": ("?", "Inconclusive"),
    "untestable": ("∅", "Not testable"),
}
_HYPOTHESES: dict[Alternative, str] = {
    "two-sided": "two-sided: {candidate} and {baseline} differ",
    "greater": "one-sided: {candidate} is above {baseline}",
    "less": "one-sided: {candidate} is below {baseline}",
}


@dataclass(frozen=True)
class Verdict:
    """The sentence, its badge and the few numbers it stands on."""

    sentence: str
    kind: str
    sign: str
    badge: str
    status: Tag
    numbers: list[Fact]


@dataclass(frozen=True)
class Declaration:
    """What was declared, and what became of it."""

    changes: list[str]
    confirmatory: bool
    preregistered: bool
    search: str  # how the settings were chosen; empty: they are a grid
    facts: list[Fact]


def verdict_of(results: Results) -> Verdict:
    """The verdict and the numbers beside it."""
    sign, badge = _BADGES[results.verdict_kind]
    return Verdict(
        # No line ends inside "p = .03".
        sentence=re.sub(r"\bp ([=<>]) (?=[.\d])", "p\u00a0\\1\u00a0", results.verdict),
        kind=results.verdict_kind,
        sign=sign,
        badge=badge.format(candidate=results.declared.candidate),
        status=Tag("confirmatory", "Confirmatory")
        if is_confirmatory(results)
        else Tag("exploratory", "EXPLORATORY"),
        numbers=_numbers(results),
    )


def _numbers(results: Results) -> list[Fact]:
    metric = metric_named(results, results.declared.primary)
    found = primary_comparison(results)
    estimate = found.estimate if found else None
    difference = measure(
        estimate.estimate if estimate else None, metric, signed=True, reason="no paired runs"
    )
    confidence = level(estimate.confidence if estimate else 1 - results.declared.alpha)
    if found is None or found.test is None:
        reason = (found.test_reason if found else None) or "there was no test"
        tested: Shown = Missing(reason)
    else:
        tested = p_value(found.test.p_value, results.declared.alpha)
    units = found.test.n if found and found.test else 0
    return [
        Fact(f"Difference in {metric.label}", with_unit(difference, metric), "Hodges–Lehmann estimate"),
        Fact(f"{confidence} interval", interval(estimate, metric.decimals), metric.unit),
        Fact("Wilcoxon signed-rank test", tested, f"over {plural(units, 'setting')}" if units else ""),
        Fact("Design", f"{len(results.settings)} × {len(results.seeds)}", "settings × seeds per arm"),
    ]


def declaration_of(results: Results) -> Declaration:
    """What the sweep declared, and whether it still stands."""
    return Declaration(
        results.declaration_changed,
        is_confirmatory(results),
        results.declared.preregistered,
        _search(results),
        _declared_facts(results),
    )


def _search(results: Results) -> str:
    """What a search does to the claims: the settings depend on results, the signs of differences do not."""
    search = results.search
    if search is None:
        return ""
    sampler = {"tpe": "a tree-structured Parzen estimator", "random": "random draws"}
    said = (
        f"The settings were chosen by a search ({sampler.get(search.sampler, search.sampler)}, seed {search.seed}; "
        f"{search.asked} of {plural(search.trials, 'declared setting')}), not declared one by one. It looks at the "
        "mean of the compared arms alone, so every arm has the same settings and the same tuning budget, and where "
        "the arms do not differ the sign of each difference stays a fair coin: the exact test over settings keeps "
        "its level. The estimate describes the settings that the search prefers, and the value of the best setting "
        "is inflated by having been selected: both are exploratory."
    )
    if search.pruned or search.pruner != "none":
        said += (
            f" {plural(search.pruned, 'setting')} {'was' if search.pruned == 1 else 'were'} pruned "
            f"({search.pruner.replace('_', ' ')}) after fewer seeds: compared over the seeds that ran, and listed "
            "with the runs that have no result."
        )
    if search.without_value:
        said += (
            f" {plural(search.without_value, 'setting')} could not be told to the search: a run has no value."
        )
    return said


def _declared_facts(results: Results) -> list[Fact]:
    declared = results.declared
    metric = metric_named(results, declared.primary)
    names = {"candidate": declared.candidate, "baseline": declared.baseline}
    better = {True: "higher is better", False: "lower is better", None: "neither direction is better"}
    rope = decimal(declared.rope, max(metric.decimals, 1))
    compared = (arm_name(results, declared.candidate), " minus ", arm_name(results, declared.baseline))
    return [
        Fact("Comparison", compared, "candidate minus baseline, paired by setting and seed"),
        Fact(
            "Primary metric",
            metric.label,
            ", ".join(filter(None, [metric.unit, better[metric.higher_is_better]])),
        ),
        Fact("Unit of analysis", "the setting", "its paired differences averaged over seeds"),
        Fact("Alternative", _HYPOTHESES[declared.alternative].format(**names)),
        Fact("Significance level α", exact_p(declared.alpha)),
        Fact(
            "Practical equivalence",
            with_unit(f"±{rope}", metric) if declared.rope > 0 else Missing("no margin was declared"),
            "differences inside count as equivalent",
        ),
    ]
