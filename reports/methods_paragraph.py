"""What was done, in plain sentences that can go into a paper: page and LaTeX share them.

Each sentence is computed from the results alone. What they do not hold is said to be unknown, or left out.
"""

from __future__ import annotations

import re

from analysis.results import Alternative, Results, RunState
from reports.formats import decimal, exact_p, setting_value
from reports.lookup import arms_in_order, metric_named, primary_comparison
from reports.methods_inference import NAME, inference_sentences, short_name
from reports.text import plural, shorten

_ALTERNATIVES: dict[Alternative, str] = {
    "two-sided": "two-sided",
    "greater": "one-sided (candidate above baseline)",
    "less": "one-sided (candidate below baseline)",
}
_STATES: dict[RunState, str] = {
    "quarantined": "quarantined by the integrity check of its evaluation",
    "diverged": "diverged",
    "failed": "failed",
    "pruned": "pruned by the search",
    "cancelled": "cancelled by hand",
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
