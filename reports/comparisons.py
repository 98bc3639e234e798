"""The primary test in full, and the other metrics in one table."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.evidence import Inference
from analysis.results import Comparison, Interval, Metric, Results, SignedRank
from reports.formats import (
    count,
    exact_p,
    interval,
    level,
    measure,
    number,
    p_value,
    titled,
    with_unit,
)
from reports.lookup import metric_named, primary_comparison
from reports.shown import Column, Fact, Missing, Shown, Table, Tag
from reports.text import plural

_SHARE_DECIMALS = 3
MOST_MISSING = 150  # pairs named on the page
_ZEROS = {
    "pratt": "ranked, then left out (Pratt)",
    "wilcox": "left out (Wilcoxon)",
    "zsplit": "split (zsplit)",
}


@dataclass(frozen=True)
class PrimaryTest:
    """What the page says about the declared comparison."""

    heading: str
    wilcoxon: list[Fact]
    effect: list[Fact]
    beside: list[Fact]  # of the same differences; empty in older results
    notes: list[str]
    missing: int  # pairs
    missing_pairs: list[str]  # the first of them


def primary_test(results: Results) -> PrimaryTest | Missing:
    """The primary comparison in facts."""
    found = primary_comparison(results)
    if found is None:
        return Missing("The results hold no comparison on the declared primary metric.")
    metric = metric_named(results, found.metric)
    reason = found.test_reason or "no reason was recorded"
    wilcoxon = _wilcoxon(found.test, results) if found.test else [Fact("p", Missing(reason))]
    return PrimaryTest(
        heading=titled(metric),
        wilcoxon=wilcoxon,
        effect=_effect(found, metric, results),
        beside=_beside(found.inference, metric) if found.inference else [],
        notes=_notes(found, results),
        missing=len(found.missing_pairs),
        missing_pairs=found.missing_pairs[:MOST_MISSING],
    )


def _wilcoxon(test: SignedRank, results: Results) -> list[Fact]:
    return [
        Fact(
            "p", exact_p(test.p_value), f"{p_value(test.p_value, results.declared.alpha)}, {test.alternative}"
        ),
        Fact("Smallest p this n can reach", exact_p(test.smallest_p), "with every difference on one side"),
        Fact("n", str(test.n), "settings, zeros included"),
        Fact("Zeros", str(test.zeros), _ZEROS[test.zero_method]),
        Fact("Ties", str(test.ties), "differences equal in size; mid-ranks"),
        Fact("W+", count(test.w_plus), "rank sum in favour of positive differences"),
        Fact("W−", count(test.w_minus), "rank sum of negative differences"),
        Fact("Null distribution", test.method),
    ]


def _effect(found: Comparison, metric: Metric, results: Results) -> list[Fact]:
    estimate = found.estimate
    if estimate is None:
        shown: list[Fact] = [Fact("Hodges–Lehmann estimate", Missing("no difference is defined"))]
    else:
        value = measure(estimate.estimate, metric, signed=True)
        ends = interval(estimate, metric.decimals)
        shown = [
            Fact(
                "Hodges–Lehmann estimate", with_unit(value, metric), "median of the pairwise (Walsh) averages"
            ),
            Fact(
                f"{level(estimate.confidence)} interval",
                with_unit(ends, metric),
                estimate.method,
            ),
            Fact("Level it achieves", _achieved(estimate)),
        ]
    settings = found.won + found.tied + found.lost
    sign = found.sign_p_value
    return [
        *shown,
        Fact(
            "Rank-biserial correlation",
            number(found.rank_biserial, 2, signed=True, reason="needs a difference that is not 0"),
            "from −1 to +1; 0: no preference",
        ),
        Fact(
            "Settings won, tied, lost",
            f"{found.won}, {found.tied}, {found.lost}"
            if settings
            else Missing("no setting has a complete pair"),
            f"by {results.declared.candidate}; descriptive",
        ),
        Fact(
            "Sign test",
            p_value(sign) if sign is not None else Missing("needs a difference that is not 0"),
            "descriptive: it uses directions only and is not the declared test",
        ),
    ]


def _beside(inference: Inference, metric: Metric) -> list[Fact]:
    shared = "; ".join(inference.unit.shared)
    facts = [
        Fact("Unit", plural(inference.unit.n, inference.unit.name), f"shared by all: {shared}"),
        Fact("Speaks of", inference.unit.population),
    ]
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
    if inference.self_check is not None:
        check = inference.self_check
        tried = f"{check.rejected} of {check.flips:,} sign patterns of these differences, nominally {check.alpha:g}"
        facts.append(Fact("False positives of the test here", number(check.rate, _SHARE_DECIMALS), tried))
    return facts


def _notes(found: Comparison, results: Results) -> list[str]:
    alpha = results.declared.alpha
    notes = []
    if found.test is not None and found.test.smallest_p > alpha:
        notes.append(
            f"With n = {found.test.n} this test cannot reach α = {exact_p(alpha)}: its smallest p is "
            f"{exact_p(found.test.smallest_p)}. More settings are needed, not more seeds."
        )
    elif found.test is not None and found.test.p_value > alpha:
        notes.append(
            "A p above α is not evidence that there is no effect: read the interval against the region of "
            "practical equivalence."
        )
    settings = found.won + found.tied + found.lost
    if settings:
        notes.append(
            f"The share of settings won ({found.won} of {settings}) describes this grid. By itself it is "
            "never evidence of a difference: settings share prompts, judge and seeds."
        )
    return notes


def other_comparisons(results: Results) -> Table | Missing:
    """One row per comparison that is not the primary."""
    primary = primary_comparison(results)
    rows = [_comparison_row(each, results) for each in results.comparisons if each is not primary]
    if not rows:
        return Missing("No other metric was compared.")
    titles = ["Estimate", "Interval", "Achieved", "p", "n", "Won / tied / lost"]
    columns = [Column("Metric"), *(Column(title, numeric=True) for title in titles), Column("Status")]
    caption = f"{results.declared.candidate} minus {results.declared.baseline}, one comparison per metric"
    note = "↑ higher is better, ↓ lower is better; without an arrow neither is, and won means higher. "
    note += "p-values are not corrected for the number of metrics." if len(rows) > 1 else ""
    return Table(caption, columns, rows, note)


def _comparison_row(each: Comparison, results: Results) -> list[Shown]:
    metric = metric_named(results, each.metric)
    estimate, test = each.estimate, each.test
    none = "no difference is defined"
    better = {True: " ↑", False: " ↓", None: ""}[metric.higher_is_better]
    return [
        titled(metric) + better,
        measure(estimate.estimate if estimate else None, metric, signed=True, reason=none),
        interval(estimate, metric.decimals, reason=none),
        _achieved(estimate),
        _bare_p(test.p_value) if test else Missing(each.test_reason or "no test was made"),
        str(test.n if test else sum(difference.mean is not None for difference in each.differences)),
        f"{each.won} / {each.tied} / {each.lost}",
        Tag("confirmatory", "confirmatory") if each.confirmatory else Tag("exploratory", "exploratory"),
    ]


def _achieved(estimate: Interval | None) -> Shown:
    """The level an interval really has; with two ends only."""
    if estimate is None or isinstance(interval(estimate, 0), Missing):
        return Missing("there is no interval")
    if estimate.achieved is None:
        return Missing("the achieved level was not recorded")
    return level(estimate.achieved)


def _bare_p(p: float) -> str:
    return p_value(p).removeprefix("p ").removeprefix("= ")
