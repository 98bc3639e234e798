"""What was done, in plain sentences that can go into a paper: page and LaTeX share them.

Each sentence is computed from the results alone. What they do not hold is said to be unknown, or left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from analysis.document import Results
from analysis.results.model import Alternative, Comparison, State, ZeroMethod
from reports.render.formats import (
    arms_in_order,
    decimal,
    exact_p,
    level,
    metric_named,
    primary_comparison,
    setting_value,
)
from reports.render.tex import escape, with_characters
from reports.render.text import plural, shorten

# The methods paragraph, ready for a paper: as text and as LaTeX.

LONGEST = 2000  # characters of a sentence, so that no line of the page's LaTeX is cut


@dataclass(frozen=True)
class Paragraph:
    """The same sentences twice."""

    sentences: list[str]
    latex: list[str]  # a sentence on each line


def paragraph_of(results: Results) -> Paragraph:
    """The section."""
    sentences = methods_sentences(results)
    latex = with_characters("\n".join(escape(sentence, LONGEST) for sentence in sentences))
    return Paragraph(sentences, latex.splitlines())


_ALTERNATIVES: dict[Alternative, str] = {
    "two-sided": "two-sided",
    "greater": "one-sided (candidate above baseline)",
    "less": "one-sided (candidate below baseline)",
}
_STATES: dict[State, str] = {
    State.QUARANTINED: "quarantined by the integrity check of its evaluation",
    State.DIVERGED: "diverged",
    State.FAILED: "failed",
    State.PRUNED: "pruned by the search",
    State.CANCELLED: "cancelled by hand",
    State.RUNNING: "still running",
    State.UNKNOWN: "with a silent worker",
    State.WAITING: "not started",
}
_LC_METHODS = {
    "length_controlled_v1": "AlpacaEval 2's logistic regression with its calibration file and instruction difficulties",
    "joint_difficulty": "a logistic regression with prompt difficulties fitted jointly from this sweep's own "
    "annotations, without AlpacaEval's calibration file",
    "no_difficulty": "a logistic regression of the preference on the difference in length, without instruction "
    "difficulties or calibration file, so that it does not compare with AlpacaEval's leaderboard",
}


def methods_paragraph(results: Results) -> str:
    """The methods as one paragraph of plain text; strings from outside are shortened and not escaped."""
    return " ".join(methods_sentences(results))


def methods_sentences(results: Results) -> list[str]:
    """The paragraph's sentences, in order: training, evaluation, declaration, inference, software."""
    return [
        *_training(results),
        *_evaluation(results),
        *_declaration(results),
        *inference_sentences(results),
        *_software(results),
    ]


def _training(results: Results) -> list[str]:
    made = results.evaluation
    pairs = results.provenance.get("pairs")
    # The provenance says in brackets where the left-out rows are named, which is no matter of a paper.
    counted = f" ({short_name(re.sub(r' [(][^()]*[)]', '', pairs))})" if pairs else ""
    arms = [arm for arm in arms_in_order(results) if arm in results.arms]
    methods = "; ".join(
        short_name(arm)
        + (
            f" ({', '.join(f'{short_name(k)} {short_name(setting_value(v))}' for k, v in results.arms[arm].items())})"
            if results.arms[arm]
            else ""
        )
        for arm in arms
    )
    axes = "; ".join(
        f"{short_name(axis)}: {', '.join(short_name(setting_value(value)) for value in values)}"
        for axis, values in results.axes.items()
    )
    grid = f" ({axes})" if axes else ""
    seeds = shorten(", ".join(map(str, results.seeds)), NAME)
    planned = len(arms) * len(results.settings) * len(results.seeds)
    if made is None:
        return [
            f"The results are a table of runs of {plural(len(arms), 'arm')} at "
            f"{plural(len(results.settings), 'setting')} with {plural(len(results.seeds), 'seed')} ({seeds}), "
            f"{plural(planned, 'run')} in all.",
            _completeness(results, planned),
        ]
    return [
        f"We trained {short_name(made.model)} on the preference data {short_name(made.data)}{counted}.",
        f"The {plural(len(arms), 'arm')} and their methods were: {methods}.",
        f"Every arm was trained at the same {plural(len(results.settings), 'setting')}{grid}, each with the same "
        f"{plural(len(results.seeds), 'seed')} ({seeds}), {plural(planned, 'run')} in all.",
        _completeness(results, planned),
    ]


def _completeness(results: Results, planned: int) -> str:
    done = results.counts.get(State.DONE, 0)
    if done == planned:
        return "All of them count."
    why = [
        f"{results.counts[state]:,} {words}" for state, words in _STATES.items() if results.counts.get(state)
    ]
    rest = f"; {', '.join(why)}" if why else ""
    return f"Of these, {done:,} count{rest}."


def _evaluation(results: Results) -> list[str]:
    made = results.evaluation
    if made is None:
        return ["How the runs were trained and evaluated is not recorded in the table."]
    prompts = (
        "the evaluation prompts" if made.n_prompts is None else f"the same {plural(made.n_prompts, 'prompt')}"
    )
    unknown = ", whose number was not recorded," if made.n_prompts is None else ""
    decoding = ", ".join(f"{short_name(k)} {short_name(setting_value(v))}" for k, v in made.decoding.items())
    decoded = f" (decoding: {decoding})" if decoding else ""
    sentences = [
        f"Every run answered {prompts} of {short_name(made.prompts)}{unknown}{decoded}; the judge "
        f"{short_name(made.judge)} compared each answer with the baseline's ({short_name(made.baseline)})."
    ]
    if any(metric.name == "length_controlled_win_rate" for metric in results.metrics):
        known = _LC_METHODS.get(made.lc_method)
        sentences.append(
            f"The length-controlled win rate is that of the method {short_name(made.lc_method)}"
            + (f": {known}." if known else ".")
        )
    return sentences


def _declaration(results: Results) -> list[str]:
    declared = results.declared
    metric = metric_named(results, declared.primary)
    better = {True: "higher is better", False: "lower is better", None: "neither direction is better"}
    about = ", ".join(filter(None, [metric.unit, better[metric.higher_is_better]]))
    candidates = ", ".join(short_name(each) for each in [declared.candidate, *declared.more_candidates])
    rope = f"{decimal(declared.rope, max(metric.decimals, 1))} {metric.unit}".strip()
    content = (
        f"the primary metric, {short_name(metric.label)} ({about}); the comparison, {candidates} against the baseline "
        f"{short_name(declared.baseline)}; the unit of analysis, the setting; a {_ALTERNATIVES[declared.alternative]} "
        f"test at α = {exact_p(declared.alpha)}; and "
        + (
            f"practical equivalence within ±{rope}"
            if declared.rope > 0
            else "no margin of practical equivalence"
        )
    )
    primary = primary_comparison(results)
    if results.declaration_changed:
        changes = "; ".join(short_name(change) for change in results.declaration_changed)
        return [
            f"The analysis is exploratory, since its declaration changed after the sweep was launched ({changes}): "
            f"{content}."
        ]
    if primary is None or not primary.confirmatory:
        return [f"The analysis is exploratory: it was not declared before the results. It has {content}."]
    return [f"Declared before any result existed, and unchanged since, were {content}."]


def _software(results: Results) -> list[str]:
    versions = results.provenance.get("packages now") or ", ".join(
        f"{name} {results.provenance[name]}" for name in ("adadpo", "torch") if name in results.provenance
    )
    return (
        [f"Software: {shorten(versions, 4 * NAME)}."]
        if versions
        else ["Software versions were not recorded."]
    )


NAME = 120  # characters of a name from outside; sentences stay readable
_ZEROS: dict[ZeroMethod, str] = {
    "pratt": "zeros ranked and then left out (Pratt)",
    "wilcox": "zeros left out (Wilcoxon)",
    "zsplit": "the ranks of zeros split between both sides",
}
# Metrics that are refitted in every draw of prompts.
_REFITTED = ("length_controlled_win_rate", "lc_minus_wr")


def short_name(text: str) -> str:
    """A string from outside on one line, cut where it is long."""
    return shorten(" ".join(text.split()), NAME)


def inference_sentences(results: Results) -> list[str]:
    """Tests, adjustments, missing runs and supplementary statistics; strings from outside are shortened."""
    found = primary_comparison(results)
    if found is None:
        return ["The results hold no comparison on the primary metric."]
    return [
        *_test(results, found),
        *_generalization(results, found),
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


def _generalization(results: Results, found: Comparison) -> list[str]:
    generalization = None if found.inference is None else found.inference.generalization
    if generalization is None:
        return []
    sampled = (
        "settings and seeds"
        if generalization.prompt is None
        else f"settings, seeds and the {plural(generalization.prompt.prompts, 'prompt')}"
    )
    needed = f"A verdict also requires a test of the mean difference that treats {sampled} as samples"
    if generalization.p_value is None:
        why = short_name(generalization.reason or "no reason was recorded")
        return [f"{needed}; there is none here ({why}), so nothing counts as established."]
    parts = "settings and seeds" if generalization.prompt is None else "settings, seeds and prompts"
    adjusted = "" if generalization.adjusted_p is None else ", adjusted over the same comparisons"
    of_prompts = (
        f"It takes the prompts as they are ({short_name(generalization.prompt_reason or 'no reason was recorded')})."
        if generalization.prompt is None
        else f"The prompts' part is from {plural(generalization.prompt.draws, 'draw')} of them, the same for every run."
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
    if generalization.prompt is not None and generalization.prompt.max_prompt_effect is not None:
        sentences.append(
            "Its interval also allows for prompts of a kind that the sample does not hold, since a single prompt can "
            f"differ by up to {generalization.prompt.max_prompt_effect:g}."
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
    sentences = [f"Supplementary statistics: {'; '.join(tests)}."] if tests else []
    if around is not None and around.unit.shared:
        shared = " and ".join(short_name(each) for each in around.unit.shared)
        sentences.append(
            f"All settings share {shared}, so p generalizes to {short_name(around.unit.population)}."
        )
    return sentences


def _prompt_level(results: Results) -> list[str]:
    found = results.prompt_level
    if found is None or all(each.low is None for each in found.settings):
        return []
    metric = metric_named(results, found.metric)
    refitted = ", the length control refitted in each" if found.metric in _REFITTED else ""
    return [
        f"The differences of {short_name(metric.label)} at single settings have {level(found.confidence)} percentile "
        f"intervals from a paired bootstrap over the {plural(found.prompts, 'prompt')} "
        f"({plural(found.replicates, 'replicate')}, the same draws for both arms and all seeds{refitted}); they "
        "cover other prompts for these same runs."
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
