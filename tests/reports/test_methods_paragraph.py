"""The methods paragraph against the results it is computed from."""

from __future__ import annotations

import pytest

from analysis.document import Results
from analysis.results.model import ArmComparison, PromptPart
from reports.sections.methods_paragraph import methods_paragraph, methods_sentences
from tests.reports.sample_results import changed, make_results
from tests.reports.whole_sample import make_whole


def test_every_fact_is_named(results: Results) -> None:
    """Checks that model, data, arms, grid, seeds, prompts, judge, LC method, test, interval and versions are there."""
    text = methods_paragraph(results)
    made, test, estimate = results.evaluation, results.comparisons[0].test, results.comparisons[0].estimate
    assert test is not None
    assert estimate is not None
    for fact in (
        made.model,
        made.data,
        "dpo (loss dpo, balance none); adadpo (loss dpo, balance per_token, clip 10,",
        "6 settings (beta: 0.05, 0.1; learning_rate: 5e-06, 1e-05, 2e-05)",
        "2 seeds (0, 1), 24 runs in all",
        "23 count; 1 failed",
        "the same 120 prompts of builtin:instructions (held out)",
        "the judge rubric",
        "the baseline's (reference)",
        "no_difficulty: a logistic regression",
        "Declared before any result existed, and unchanged since",
        "LC win rate (points, higher is better)",
        "two-sided test at α = .05",
        "±1.00 points",
        f"these {test.n} averages",
        test.method,
        "smallest p that it can reach with these 6 is .03125",
        "95% confidence interval",
        "1 of 12 pairs of runs is missing",
        "complete pairs",
        "4 other metrics are exploratory",
        "torch 2.9.0",
    ):
        assert fact in text
    assert text == " ".join(methods_sentences(results))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"declaration_changed": ["alpha was 0.01"]}, "exploratory, since its declaration changed after"),
        ({"provenance": {}}, "Software versions were not recorded."),
        ({"comparisons": []}, "The results hold no comparison on the primary metric."),
        ({"counts": {"done": 24}}, "All of them count."),
        (
            {"provenance": {"pairs": "16 for training; 1 left out (see a file)"}},
            "(16 for training; 1 left out)",
        ),
    ],
)
def test_what_differs_is_said(results: Results, change: dict[str, object], said: str) -> None:
    """Checks the sentence that a change of the results brings, against the unchanged paragraph."""
    assert said not in methods_paragraph(results)
    assert said in methods_paragraph(results.model_copy(update=change))


def test_undeclared_analysis_is_exploratory(results: Results) -> None:
    """Checks that a comparison which is not confirmatory is never called declared."""
    first = results.comparisons[0].model_copy(update={"confirmatory": False})
    text = methods_paragraph(changed(results, {"comparisons": [first, *results.comparisons[1:]]}))
    assert "it was not declared before the results" in text
    assert "Declared before any result" not in text


def test_family_and_further_arms(results: Results) -> None:
    """Checks the multiplicity of a declared family and of arms outside it against their numbers."""
    first = results.comparisons[0].model_copy(update={"family": 2, "adjusted_p": 0.1})
    others = [
        ArmComparison(candidate=name, declared=declared, comparison=first, verdict=None)
        for name, declared in (("simpo", True), ("orpo", False))
    ]
    declared = results.declared.model_copy(update={"more_candidates": ["simpo"]})
    changes = {"comparisons": [first], "other_arms": others, "declared": declared}
    text = methods_paragraph(results.model_copy(update=changes))
    assert "The 2 declared comparisons were adjusted by Holm's method." in text
    assert "1 further arm was compared with the baseline as exploration" in text
    assert "adadpo, simpo against the baseline dpo" in text


def test_without_a_test_there_is_none() -> None:
    """Checks results without any run: no test is described, and why."""
    text = methods_paragraph(make_results(missing=True))
    assert "There was no test: no setting has a complete pair of runs." in text
    assert "Wilcoxon" not in text
    assert "0 count; 24 not started" in text


def test_unknown_number_of_prompts(results: Results) -> None:
    """Checks that a number that was not recorded is said to be unknown."""
    made = results.evaluation.model_copy(update={"n_prompts": None})
    assert "whose number was not recorded" in methods_paragraph(
        results.model_copy(update={"evaluation": made})
    )


def test_long_names_are_cut(results: Results) -> None:
    """Checks a paragraph whose names are a megabyte long: sentences stay readable."""
    made = results.evaluation.model_copy(update={"model": "m" * 1_000_000, "judge": "a\nb\n" * 1000})
    text = methods_paragraph(results.model_copy(update={"evaluation": made}))
    assert len(text) < 8000
    assert "\n" not in text


@pytest.fixture(scope="module")
def whole() -> Results:
    """Three arms, analysed."""
    return make_whole()


def _with_generalization(results: Results, **changes: object) -> Results:
    first = results.comparisons[0]
    assert first.inference is not None
    assert first.inference.generalization is not None
    generalization = first.inference.generalization.model_copy(update=changes)
    around = first.inference.model_copy(update={"generalization": generalization})
    other = first.model_copy(update={"inference": around})
    return changed(results, {"comparisons": [other, *results.comparisons[1:]]})


def test_the_generalization_test_is_described(whole: Results) -> None:
    """Checks what the second test samples, with and without draws of prompts, and what both together decide."""
    without = methods_paragraph(whole)
    assert "a test of the mean difference that treats settings and seeds as samples: its interval" in without
    assert "It takes the prompts as they are (no prompt-level data were given)." in without
    assert "at most α, in one direction, and as practically equivalent only where" in without
    part = PromptPart(prompts=805, shared=0.1, total=0.2, draws=2000)
    drawn = methods_paragraph(_with_generalization(whole, prompt=part, prompts=805, prompt_reason=None))
    assert "that treats settings, seeds and the 805 prompts as samples" in drawn
    assert "The prompts' part is from 2,000 draws of them, the same for every run." in drawn
    assert "takes the prompts as they are" not in drawn
    assert "adjusted over the same comparisons" in methods_paragraph(
        _with_generalization(whole, adjusted_p=0.04)
    )


@pytest.mark.parametrize(("reach", "said"), [(100.0, True), (None, False)])
def test_prompts_of_an_unseen_kind_are_said(whole: Results, reach: float | None, said: bool) -> None:
    """Checks the allowance by its bound, which a metric without bounds does not have."""
    part = PromptPart(prompts=64, shared=0.1, total=0.2, draws=2000, max_prompt_effect=reach)
    text = methods_paragraph(_with_generalization(whole, prompt=part, prompts=64, prompt_reason=None))
    assert ("a single prompt can differ by up to 100." in text) == said


def test_without_a_generalization_test_nothing_is_established() -> None:
    """Checks one seed: there is no second test, and the paragraph says what follows."""
    text = methods_paragraph(make_whole(seeds=(0,)))
    assert "there is none here (needs 2 settings and 2 seeds without a missing pair, has 6 and 1)" in text
    assert "so nothing counts as established" in text
    assert "counts as better only where" not in text


def test_prompt_level_best_and_ranks(whole: Results) -> None:
    """Checks each of the further parts against its numbers, and that a part that is not there is not told."""
    level, ranks = whole.prompt_level, whole.average_ranks
    assert level is not None
    assert ranks is not None
    draws = next(
        each for each in whole.best_of_grid if each.bests.corrected is not None
    ).bests.candidate.draws
    text = methods_paragraph(whole)
    parts = (
        (
            f"a paired bootstrap over the {level.prompts} prompts ({level.replicates:,} replicates,",
            "prompt_level",
        ),
        (f"in each of {draws:,} draws of prompts the setting was chosen on", "best_of_grid"),
        (
            f"the 3 arms were ranked at each of {ranks.settings} settings and compared by Friedman's",
            "average_ranks",
        ),
    )
    for said, part in parts:
        assert said in text
        absent = [] if part == "best_of_grid" else None
        assert said not in methods_paragraph(whole.model_copy(update={part: absent}))
    assert "the length control refitted in each" in text
    raw = changed(whole, {"prompt_level": level.model_copy(update={"metric": "win_rate"})})
    assert "the length control refitted" not in methods_paragraph(raw)


def test_best_without_correction_is_said(whole: Results) -> None:
    """Checks bests of a table without judgements of single prompts: no correction is claimed, and why."""
    first = whole.best_of_grid[0]
    bests = first.bests.model_copy(
        update={"corrected": None, "reason": "there are no judgements of single prompts"}
    )
    text = methods_paragraph(changed(whole, {"best_of_grid": [first.model_copy(update={"bests": bests})]}))
    assert "too good for its having been chosen: there are no judgements of single prompts" in text
    assert "scored on the others" not in text
