"""The primary test in full, and the other metrics in one table."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.document import Results
from analysis.results.model import ArmComparison, Comparison, Inference, Interval, Metric, SignedRank
from reports.render.cells import Column, Fact, Missing, Shown, Table, Tag
from reports.render.formats import (
    arm_name,
    count,
    exact_p,
    interval,
    level,
    measure,
    metric_named,
    number,
    p_value,
    primary_comparison,
    titled,
    with_unit,
)
from reports.render.text import plural

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
    supplementary: list[Fact]  # of the same differences; empty in older results
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
        supplementary=_beside(found.inference, metric) if found.inference else [],
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
        Fact("Generalizes to", inference.unit.population),
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


# Three arms or more at a glance: average ranks; exploratory.


def ranks_of(results: Results) -> Table | Missing | None:
    """A row for each arm, the best first; None for fewer than three arms and for older files."""
    found = results.average_ranks
    if found is None:
        return None
    if found.reason is not None or found.p_value is None or found.critical_difference is None:
        return Missing(f"Not defined: {found.reason or 'no reason was recorded'}.")
    metric = metric_named(results, results.declared.primary)
    best = min(found.ranks.values())
    rows: list[list[Shown]] = [
        [
            arm_name(results, arm),
            number(rank, 2),
            "best" if rank == best else number(rank - best, 2),
            "–" if rank == best else "yes" if rank - best >= found.critical_difference else "no",
        ]
        for arm, rank in sorted(found.ranks.items(), key=lambda each: each[1])
    ]
    f_test = "" if found.f_p_value is None else f"; Iman–Davenport {p_value(found.f_p_value, found.alpha)}"
    note = (
        f"Exploratory. Rank 1 is the best arm at a setting, over {plural(found.settings, 'setting')}"
        f"{f' ({found.left_out} left out: an arm has no value there)' if found.left_out else ''}. Friedman "
        f"{p_value(found.p_value, found.alpha)}{f_test}. Critical difference at {found.alpha:g} (Nemenyi): "
        f"{found.critical_difference:.2f}; arms whose ranks differ by less are not "
        "distinguishable. Settings share seeds and prompts, which ranks do not show."
    )
    columns = [Column("Arm"), Column("Average rank", numeric=True)]
    columns += [Column("Behind the best", numeric=True), Column("Beyond the critical difference")]
    return Table(f"{metric.label}: arms ranked at every setting", columns, rows, note)


_NONE = "no difference is defined"


def other_arms_of(results: Results) -> Table | None:
    """A row for each arm, the first candidate's for comparison; None where there is no other."""
    if not results.other_arms:
        return None
    declared = results.declared
    metric = metric_named(results, declared.primary)
    rows: list[list[Shown]] = []
    first = primary_comparison(results)
    if first is not None:
        rows.append(_row(results, declared.candidate, True, first, metric))
    rows += [_of(results, each, metric) for each in results.other_arms]
    titles = ["Difference", "Interval", "p", "Adjusted p", "n", "Won / tied / lost"]
    columns = [Column("Arm"), *(Column(title, numeric=True) for title in titles), Column("Status")]
    return Table(
        f"{metric.label}: each arm minus {declared.baseline}",
        columns,
        rows,
        "Adjusted: by Holm over the declared candidates, by Benjamini–Hochberg over the other arms.",
    )


def _of(results: Results, each: ArmComparison, metric: Metric) -> list[Shown]:
    return _row(results, each.candidate, each.declared, each.comparison, metric)


def _row(results: Results, arm: str, is_declared: bool, found: Comparison, metric: Metric) -> list[Shown]:
    alpha, estimate, test = results.declared.alpha, found.estimate, found.test
    adjusted: Shown = Missing("a single comparison is not adjusted")
    if found.adjusted_p is not None:
        adjusted = p_value(found.adjusted_p, alpha)
    status = (
        Tag("confirmatory", "confirmatory")
        if is_declared and found.confirmatory
        else Tag("exploratory", "exploratory")
    )
    return [
        arm_name(results, arm),
        measure(estimate.estimate if estimate else None, metric, signed=True, reason=_NONE),
        interval(estimate, metric.decimals, reason=_NONE),
        p_value(test.p_value, alpha) if test else Missing(found.test_reason or "no test was made"),
        adjusted,
        str(test.n) if test else "0",
        f"{found.won} / {found.tied} / {found.lost}",
        status,
    ]
