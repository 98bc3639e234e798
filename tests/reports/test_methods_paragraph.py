"""The methods paragraph against the results it is computed from."""

from __future__ import annotations

import pytest
from sample_results import make_results

from analysis.results import ArmComparison, Results
from reports.methods_paragraph import methods_paragraph, methods_sentences


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
    text = methods_paragraph(results.model_copy(update={"comparisons": [first, *results.comparisons[1:]]}))
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
