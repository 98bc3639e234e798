"""What was done, in plain sentences that can go into a paper: page and LaTeX share them.

Each sentence is computed from the results alone. What they do not hold is said to be unknown, or left out.
"""

from __future__ import annotations

import re

from analysis.results import Alternative, Comparison, Results, RunState, ZeroMethod
from reports.formats import decimal, exact_p, level, setting_value
from reports.lookup import arms_in_order, metric_named, primary_comparison
from reports.text import plural, shorten

NAME = 120  # characters of a name from outside; sentences stay readable
_ALTERNATIVES: dict[Alternative, str] = {
    "two-sided": "two-sided",
    "greater": "one-sided (candidate above baseline)",
    "less": "one-sided (candidate below baseline)",
}
_ZEROS: dict[ZeroMethod, str] = {
    "pratt": "zeros ranked and then left out (Pratt)",
    "wilcox": "zeros left out (Wilcoxon)",
    "zsplit": "the ranks of zeros split between both sides",
}
_STATES: dict[RunState, str] = {
    "quarantined": "quarantined by the integrity check of its evaluation",
    "diverged": "diverged",
    "failed": "failed",
    "pruned": "pruned by the search",
    "running": "still running",
    "waiting": "not started",
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
        *_inference(results),
        *_software(results),
    ]


def _name(text: str) -> str:
    return shorten(" ".join(text.split()), NAME)


def _training(results: Results) -> list[str]:
    made = results.evaluation
    pairs = results.provenance.get("pairs")
    # The provenance says in brackets where the left-out rows are named, which is no matter of a paper.
    counted = f" ({_name(re.sub(r' [(][^()]*[)]', '', pairs))})" if pairs else ""
    arms = [arm for arm in arms_in_order(results) if arm in results.arms]
    methods = "; ".join(
        _name(arm)
        + (
            f" ({', '.join(f'{_name(k)} {_name(setting_value(v))}' for k, v in results.arms[arm].items())})"
            if results.arms[arm]
            else ""
        )
        for arm in arms
    )
    axes = "; ".join(
        f"{_name(axis)}: {', '.join(_name(setting_value(value)) for value in values)}"
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
        f"We trained {_name(made.model)} on the preference data {_name(made.data)}{counted}.",
        f"The {plural(len(arms), 'arm')} and their methods were: {methods}.",
        f"Every arm was trained at the same {plural(len(results.settings), 'setting')}{grid}, each with the same "
        f"{plural(len(results.seeds), 'seed')} ({seeds}), {plural(planned, 'run')} in all.",
        _completeness(results, planned),
    ]


def _completeness(results: Results, planned: int) -> str:
    done = results.counts.get("done", 0)
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
    decoding = ", ".join(f"{_name(k)} {_name(setting_value(v))}" for k, v in made.decoding.items())
    decoded = f" (decoding: {decoding})" if decoding else ""
    sentences = [
        f"Every run answered {prompts} of {_name(made.prompts)}{unknown}{decoded}; the judge {_name(made.judge)} "
        f"compared each answer with the baseline's ({_name(made.baseline)})."
    ]
    if any(metric.name == "length_controlled_win_rate" for metric in results.metrics):
        known = _LC_METHODS.get(made.lc_method)
        sentences.append(
            f"The length-controlled win rate is that of the method {_name(made.lc_method)}"
            + (f": {known}." if known else ".")
        )
    return sentences


def _declaration(results: Results) -> list[str]:
    declared = results.declared
    metric = metric_named(results, declared.primary)
    better = {True: "higher is better", False: "lower is better", None: "neither direction is better"}
    about = ", ".join(filter(None, [metric.unit, better[metric.higher_is_better]]))
    candidates = ", ".join(_name(each) for each in [declared.candidate, *declared.more_candidates])
    rope = f"{decimal(declared.rope, max(metric.decimals, 1))} {metric.unit}".strip()
    content = (
        f"the primary metric, {_name(metric.label)} ({about}); the comparison, {candidates} against the baseline "
        f"{_name(declared.baseline)}; the unit of analysis, the setting; a {_ALTERNATIVES[declared.alternative]} "
        f"test at α = {exact_p(declared.alpha)}; and "
        + (
            f"practical equivalence within ±{rope}"
            if declared.rope > 0
            else "no margin of practical equivalence"
        )
    )
    primary = primary_comparison(results)
    if results.declaration_changed:
        changes = "; ".join(_name(change) for change in results.declaration_changed)
        return [
            f"The analysis is exploratory, since its declaration changed after the sweep was launched ({changes}): "
            f"{content}."
        ]
    if primary is None or not primary.confirmatory:
        return [f"The analysis is exploratory: it was not declared before the results. It has {content}."]
    return [f"Declared before any result existed, and unchanged since, were {content}."]


def _inference(results: Results) -> list[str]:
    found = primary_comparison(results)
    if found is None:
        return ["The results hold no comparison on the primary metric."]
    return [
        *_test(results, found),
        *_multiplicity(results, found),
        *_missing(results, found),
        *_guards(results, found),
    ]


def _test(results: Results, found: Comparison) -> list[str]:
    if found.test is None:
        return [f"There was no test: {_name(found.test_reason or 'no reason was recorded')}."]
    test = found.test
    sentences = [
        "At each setting, the candidate's minus the baseline's value was averaged over the seeds with both runs; "
        f"these {plural(test.n, 'average')} were tested by Wilcoxon's signed-rank test, {_name(test.method)}, with "
        f"{_ZEROS[test.zero_method]}; differences were rounded to {plural(results.declared.decimals, 'decimal')} "
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
        why = _name(estimate.reason or "no reason was recorded")
        sentences.append(f"The effect is the Hodges–Lehmann estimate, without an interval: {why}.")
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


def _guards(results: Results, found: Comparison) -> list[str]:
    around = found.inference
    guards = []
    if around is not None:
        guards.append("a t test that takes settings and seeds both as samples (two-way ANOVA, Satterthwaite)")
        if around.equivalence is not None:
            guards.append(f"two one-sided tests of equivalence at α = {exact_p(around.equivalence.alpha)}")
        if around.bayesian is not None:
            guards.append("a Bayesian signed-rank test with the same region of equivalence")
        if around.self_check is not None:
            check = around.self_check
            patterns = "all" if check.exhaustive else "sampled"
            guards.append(
                f"the test's false-positive rate over {patterns} {check.flips:,} sign patterns of these differences"
            )
    sentences = [f"Beside it stand {'; '.join(guards)}."] if guards else []
    if around is not None and around.unit.shared:
        shared = " and ".join(_name(each) for each in around.unit.shared)
        sentences.append(f"All settings share {shared}, so p speaks of {_name(around.unit.population)}.")
    return sentences


def _software(results: Results) -> list[str]:
    versions = results.provenance.get("packages now") or ", ".join(
        f"{name} {results.provenance[name]}" for name in ("adadpo", "torch") if name in results.provenance
    )
    return (
        [f"Software: {shorten(versions, 4 * NAME)}."]
        if versions
        else ["Software versions were not recorded."]
    )
