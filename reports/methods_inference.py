"""How the comparison was tested, in plain sentences that can go into a paper: of `methods_paragraph`."""

from __future__ import annotations

from analysis.results import Comparison, Results, ZeroMethod
from reports.formats import exact_p, level
from reports.lookup import metric_named, primary_comparison
from reports.text import plural, shorten

NAME = 120  # characters of a name from outside; sentences stay readable
_ZEROS: dict[ZeroMethod, str] = {
    "pratt": "zeros ranked and then left out (Pratt)",
    "wilcox": "zeros left out (Wilcoxon)",
    "zsplit": "the ranks of zeros split between both sides",
}
# Of the metrics with errors over prompts, those that a draw of prompts fits anew.
_REFITTED = ("length_controlled_win_rate", "lc_minus_wr")


def short_name(text: str) -> str:
    """A string from outside on one line, cut where it is long."""
    return shorten(" ".join(text.split()), NAME)


def inference_sentences(results: Results) -> list[str]:
    """Tests, what was adjusted, what is missing, what stands beside them; strings from outside are shortened."""
    found = primary_comparison(results)
    if found is None:
        return ["The results hold no comparison on the primary metric."]
    return [
        *_test(results, found),
        *_guard(results, found),
        *_multiplicity(results, found),
        *_missing(results, found),
        *_beside(found),
        *_prompt_level(results),
        *_best_of_grid(results),
        *_average_ranks(results),
    ]


def _test(results: Results, found: Comparison) -> list[str]:
    if found.test is None:
        return [f"There was no test: {short_name(found.test_reason or 'no reason was recorded')}."]
    test = found.test
    sentences = [
        "At each setting, the candidate's minus the baseline's value was averaged over the seeds with both runs; "
        f"these {plural(test.n, 'average')} were tested by Wilcoxon's signed-rank test, {short_name(test.method)}, "
        f"with {_ZEROS[test.zero_method]}; differences were rounded to {plural(results.declared.decimals, 'decimal')} "
        f"before ranking. The smallest p that it can reach with these {test.n} is {exact_p(test.smallest_p)}."
    ]
    estimate = found.estimate
    if estimate is not None and estimate.low is not None and estimate.high is not None:
        achieved = "" if estimate.achieved is None else f" (achieved level {level(estimate.achieved)})"
        sentences.append(
            "The effect is the Hodges–Lehmann estimate, the median of the Walsh averages, with a "
            f"{level(estimate.confidence)} confidence interval that inverts the test{achieved}."
        )
    elif estimate is not None:
        why = short_name(estimate.reason or "no reason was recorded")
        sentences.append(f"The effect is the Hodges–Lehmann estimate, without an interval: {why}.")
    return sentences


def _guard(results: Results, found: Comparison) -> list[str]:
    guard = None if found.inference is None else found.inference.guard
    if guard is None:
        return []
    sampled = (
        "settings and seeds"
        if guard.prompt is None
        else f"settings, seeds and the {plural(guard.prompt.prompts, 'prompt')}"
    )
    needed = f"A verdict needs besides a test of the mean difference for which {sampled} are samples"
    if guard.p_value is None:
        why = short_name(guard.reason or "no reason was recorded")
        return [f"{needed}; there is none here ({why}), so nothing counts as established."]
    parts = "settings and seeds" if guard.prompt is None else "settings, seeds and prompts"
    adjusted = "" if guard.adjusted_p is None else ", adjusted over the same comparisons"
    of_prompts = (
        f"It takes the prompts as they are ({short_name(guard.prompt_reason or 'no reason was recorded')})."
        if guard.prompt is None
        else f"The prompts' part is from {plural(guard.prompt.draws, 'draw')} of them, the same for every run."
    )
    equivalent = (
        ", and as practically equivalent only where the intervals of both are within the margin"
        if results.declared.rope > 0
        else ""
    )
    sentences = [
        f"{needed}: its interval combines the half-widths of {parts} by their squares, each half-width with Student's "
        f"t at its own degrees of freedom, and its p inverts the interval. {of_prompts}",
        f"An arm counts as better only where the p of both tests is at most α{adjusted}, in one direction"
        f"{equivalent}.",
    ]
    if guard.prompt is not None and guard.prompt.reach is not None:
        sentences.append(
            "Its interval also allows for prompts of a kind that the sample does not hold, since a single prompt can "
            f"differ by up to {guard.prompt.reach:g}."
        )
    return sentences


def _multiplicity(results: Results, found: Comparison) -> list[str]:
    if found.family > 1:
        decided = f"The {found.family} declared comparisons were adjusted by Holm's method."
    else:
        decided = "One comparison was primary, so its p-value is not adjusted."
    others = [each for each in results.other_arms if not each.declared]
    explored = (
        f" {plural(len(others), 'further arm')} {'was' if len(others) == 1 else 'were'} compared with the baseline "
        "as exploration, adjusted by Benjamini–Hochberg."
        if others
        else ""
    )
    metrics = len(results.comparisons) - 1
    rest = (
        f" {plural(metrics, 'other metric')} {'is' if metrics == 1 else 'are'} exploratory, with unadjusted "
        "p-values."
        if metrics > 0
        else ""
    )
    return [decided + explored + rest]


def _missing(results: Results, found: Comparison) -> list[str]:
    pairs = len(results.settings) * len(results.seeds)
    lacking = len(found.missing_pairs)
    said = (
        f"None of {plural(pairs, 'pair')} of runs is missing"
        if not lacking
        else f"{lacking:,} of {plural(pairs, 'pair')} of runs {'is' if lacking == 1 else 'are'} missing and named"
    )
    rules = found.inference.missing.rules if found.inference and found.inference.missing else []
    named = (
        f"; the test was repeated under the rules {', '.join(each.rule for each in rules)}" if rules else ""
    )
    return [f"{said}; the test uses complete pairs{named}."]


def _beside(found: Comparison) -> list[str]:
    around = found.inference
    tests = []
    if around is not None:
        tests.append("a t test that takes settings and seeds both as samples (two-way ANOVA, Satterthwaite)")
        if around.equivalence is not None:
            tests.append(f"two one-sided tests of equivalence at α = {exact_p(around.equivalence.alpha)}")
        if around.bayesian is not None:
            tests.append("a Bayesian signed-rank test with the same region of equivalence")
        if around.self_check is not None:
            check = around.self_check
            patterns = "all" if check.exhaustive else "sampled"
            tests.append(
                f"the test's false-positive rate over {patterns} {check.flips:,} sign patterns of these differences"
            )
    sentences = [f"Beside it stand {'; '.join(tests)}."] if tests else []
    if around is not None and around.unit.shared:
        shared = " and ".join(short_name(each) for each in around.unit.shared)
        sentences.append(f"All settings share {shared}, so p speaks of {short_name(around.unit.population)}.")
    return sentences


def _prompt_level(results: Results) -> list[str]:
    found = results.prompt_level
    if found is None or all(each.low is None for each in found.settings):
        return []
    metric = metric_named(results, found.metric)
    refitted = ", the length control fitted anew in each" if found.metric in _REFITTED else ""
    return [
        f"The differences of {short_name(metric.label)} at single settings have {level(found.confidence)} percentile "
        f"intervals from a paired bootstrap over the {plural(found.prompts, 'prompt')} "
        f"({plural(found.replicates, 'replicate')}, the same draws for both arms and all seeds{refitted}); they "
        "speak of other prompts for these same runs."
    ]


def _best_of_grid(results: Results) -> list[str]:
    if not results.best_of_grid:
        return []
    corrected = [each for each in results.best_of_grid if each.bests.corrected is not None]
    if not corrected:
        why = short_name(results.best_of_grid[0].bests.reason or "no reason was recorded")
        return [
            f"The best setting of each arm is given as found, which is too good for its having been chosen: {why}."
        ]
    bests = corrected[0].bests
    draws = plural(bests.candidate.draws, "draw")
    metrics = " and ".join(short_name(metric_named(results, each.metric).label) for each in corrected)
    budgets = (
        ", and as the expected best of each number of settings tried"
        if any(each.budgets is not None for each in corrected)
        else ""
    )
    return [
        "As exploration, the best setting of each arm is given as found and corrected for its having been chosen "
        f"({metrics}: in each of {draws} of prompts the setting was chosen on the prompts drawn and scored on the "
        f"others){budgets}."
    ]


def _average_ranks(results: Results) -> list[str]:
    found = results.average_ranks
    if found is None or found.reason is not None or found.p_value is None:
        return []
    f_test = "" if found.f_p_value is None else " and Iman and Davenport's F"
    critical = "" if found.critical_difference is None else "; average ranks by Nemenyi's critical difference"
    return [
        f"As exploration, the {plural(len(found.ranks), 'arm')} were ranked at each of "
        f"{plural(found.settings, 'setting')} and compared by Friedman's test, corrected for ties{f_test}{critical} "
        f"(α = {exact_p(found.alpha)})."
    ]
