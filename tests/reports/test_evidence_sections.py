"""Sections on prompts, bests, claims, flips and groups against the values they show."""

from __future__ import annotations

import re

from analysis.document import Results
from analysis.inference.intervals import hodges_lehmann
from analysis.inference.signed_rank import signed_rank_test
from analysis.statistics.groups import SettingGroup
from reports.figures.forest import primary_figure
from reports.page import render_html
from reports.sections.best_of_grid import best_of
from tests.reports.page_text import Page
from tests.reports.sample_results import changed, make_results


def text_of(results: Results, title: str) -> str:
    """Text of one section, or "" where there is none."""
    for part in re.findall(r"<section.*?</section>", render_html(results), flags=re.DOTALL):
        lines = Page(part).lines
        if lines[0] == title:
            return "\n".join(lines[1:])
    return ""


def test_intervals_over_prompts_are_drawn(results: Results) -> None:
    """One bracket for every setting with an interval, at its ends on the figure's axis; what lacks one is said."""
    figure = primary_figure(results)
    assert figure is not None
    level = results.prompt_level
    assert level is not None
    known = [each for each in level.settings if each.low is not None]
    paths = re.findall(
        r'<path d="M([\d.]+) [\d.]+L[\d.]+ [\d.]+L([\d.]+) [^"]*" class="prompts">', figure.picture
    )
    assert len(paths) == len(known) == 5
    zero = re.search(r'<line x1="([\d.]+)"[^>]*class="zero"', figure.picture)
    assert zero
    scales = [
        (float(end) - float(zero[1])) / value
        for (low, high), each in zip(paths, known, strict=True)
        for end, value in ((low, each.low), (high, each.high))
        if value
    ]
    assert max(scales) - min(scales) < 0.2  # pixels per point; coordinates have one decimal
    shown = text_of(results, "Paired differences")
    assert "95% interval of the setting's mean over other draws of the 120 prompts" in shown
    assert "1 setting without: too many draws have no value." in shown


def test_without_intervals_over_prompts() -> None:
    """The reason in the caption; an older file, which has none, says nothing."""
    missing = make_results(missing=True)
    assert "No intervals over prompts: no run that counts has a judged response." in text_of(
        missing, "Paired differences"
    )
    older = changed(make_results(), {"prompt_level": None})
    figure = primary_figure(older)
    assert figure is not None
    assert figure.prompts == ""
    assert 'class="prompts"' not in figure.picture


def test_bests_of_the_grid(results: Results) -> None:
    """Every number of the table against the results, and a curve per metric that ends at the expected best."""
    text = text_of(results, "Best of the grid")
    for each in results.best_of_grid:
        assert each.bests.naive is not None
        for side, names in ((each.bests.candidate, each.candidate), (each.bests.baseline, each.baseline)):
            assert side.chosen is not None
            for value in (side.naive, side.corrected):
                assert f"{value:.2f}" in text
            assert f"[{side.low:.2f}, {side.high:.2f}]" in text
            assert names[side.chosen] in text
        assert f"{each.bests.naive:+.2f}" in text
        assert each.budgets is not None
        assert f"With 6 settings tried by each arm: difference {each.budgets.difference:+.2f} points." in text
    assert text.count("62%") == 4
    assert "Difference of bests" in text
    best = best_of(results)
    assert len(best.curves) == 2


def test_unequal_grids_and_diverged_settings_are_flagged(results: Results) -> None:
    """The warning of the search budgets and the settings that count as worst, in the section."""
    first = results.best_of_grid[0]
    assert first.budgets is not None
    other = first.model_copy(
        update={
            "budgets": first.budgets.model_copy(update={"warning": "unequal grids: 12 settings against 6"}),
            "worst_given": ["adadpo at beta=0.5"],
        }
    )
    text = text_of(changed(results, {"best_of_grid": [other]}), "Best of the grid")
    assert "unequal grids: 12 settings against 6" in text
    assert "counted as the worst value there is: adadpo at beta=0.5." in text


def test_bests_without_judgements_of_prompts(results: Results) -> None:
    """A corrected value that cannot be had is a dash with its reason; no arm with a value, a sentence."""
    first = results.best_of_grid[0]
    nothing = {
        "corrected": None,
        "low": None,
        "high": None,
        "reason": "there are no judgements of single prompts",
    }
    side = first.bests.candidate.model_copy(update=nothing | {"share_chosen": [], "draws": 0})
    bests = first.bests.model_copy(update=nothing | {"candidate": side})
    text = text_of(
        changed(results, {"best_of_grid": [first.model_copy(update={"bests": bests})]}),
        "Best of the grid",
    )
    assert "–: there are no judgements of single prompts" in text
    assert (
        text_of(make_results(missing=True), "Best of the grid")
        == "Not defined: an arm has no value at any setting."
    )


def test_the_papers_claims(results: Results) -> None:
    """Published figures against the paper's, ours with their intervals, the label and the warning."""
    text = text_of(results, "The paper's claims")
    for words in (
        "81.0%",
        "88.0%",
        "48.3",
        "46.1",
        "arXiv 2605.28440",
        "Llama-3-8B-Instruct",
        "another model",
    ):
        assert words in text
    assert results.paper_claims is not None
    share = results.paper_claims.claims[0]
    assert share.ours is not None
    assert f"{share.ours.estimate:.1f}% ({share.count} of {share.settings})" in text
    assert f"[{share.ours.low:.1f}%, {share.ours.high:.1f}%]" in text
    assert "No share is evidence of a difference by itself" in text
    assert text_of(changed(results, {"paper_claims": None}), "The paper's claims") == ""


def test_flipped_prompts(results: Results) -> None:
    """Both directions with counts, both arms' answers and the reference's; the ones not shown are counted."""
    text = text_of(results, "Prompts that flipped")
    assert results.flips is not None
    for words in (
        "adadpo wins, dpo loses: 9 prompts",
        "dpo wins, adadpo loses: 1 prompt",
        "8 of 11 pairs",
        "6 of 11 pairs, 1 the other way",
        "7 more prompts flipped this way on balance, less consistently.",
        "✓ wins, 93.0%",
        "✕ loses, 20.0%",
        "against the answer of reference",
    ):
        assert words in text, words
    for flip in (*results.flips.to_candidate, *results.flips.to_baseline):
        for words in (flip.instruction, flip.candidate_output, flip.baseline_output, flip.reference_output):
            assert words in text
        assert f"{flip.setting}, seed {flip.seed}" in text
    assert "Nothing to show: no run that counts" in text_of(
        make_results(missing=True), "Prompts that flipped"
    )


def test_flips_of_long_answers_are_bounded(results: Results) -> None:
    """Ten prompts with answers of a megabyte each against the page's limit."""
    assert results.flips is not None
    long = results.flips.to_candidate[0].model_copy(
        update=dict.fromkeys(
            ("instruction", "reference_output", "candidate_output", "baseline_output"), "<&>" * 400000
        )
    )
    flips = results.flips.model_copy(update={"to_candidate": [long] * 5, "to_baseline": [long] * 5})
    assert len(render_html(changed(results, {"flips": flips})).encode()) < 600_000


def test_groups_of_settings(results: Results) -> None:
    """A group that is tested and one that cannot be, against the values; without groups there is no section."""
    assert text_of(results, "By group of settings") == ""
    d = [1.0, 2.0, 1.5, 0.5, 3.0, 2.5]
    tested = SettingGroup(
        axis="loss", value="simpo", settings=[f"s{k}" for k in range(6)], n=6, baseline=50.25, candidate=52.0,
        mean=1.75, estimate=hodges_lehmann(d), won=6, lost=0, test=signed_rank_test(d), adjusted=0.0625, reason=None,
    )  # fmt: skip
    few = tested.model_copy(
        update={
            "value": "ipo", "settings": ["s7"], "n": 1, "estimate": hodges_lehmann([1.0]), "won": 1,
            "test": signed_rank_test([1.0]), "adjusted": None, "reason": "not testable: one setting",
        }
    )  # fmt: skip
    text = text_of(changed(results, {"groups": [tested, few]}), "By group of settings")
    for words in (
        "simpo",
        "6 of 6",
        "50.25",
        "52.00",
        "+1.75",
        "6, 0",
        "[+0.50, +3.00]",
        "p = .031",
        "p = .062",
    ):
        assert words in text, words
    assert "–: not testable: one setting" in text
