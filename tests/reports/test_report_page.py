"""The page against the results it was made from: order, wording, completeness, sameness."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from analysis.document import Results
from reports.page import render_html
from tests.reports.page_text import Page
from tests.reports.sample_results import changed, make_results

HERE = Path(__file__).parent
SECTIONS = [
    "Verdict",
    "What was declared",
    "Design and completeness",
    "Mean and SD per cell",
    "Primary test",
    "Paired differences",
    "Difference over the grid",
    "Other metrics",
    "LC against WR and length",
    "Training dynamics",
    "Gradient audit",
    "Best of the grid",
    "The paper's claims",
    "Prompts that flipped",
    "Sample outputs",
    "Methods, ready for a paper",
    "How to read this page",
    "All runs",
    "Provenance",
    "Files",
]
# Drawn of values alone: without any there is no such section.
WITH_VALUES = {"Difference over the grid", "LC against WR and length"}


def sections(html: str) -> dict[str, str]:
    """Text of each section by its heading."""
    parts = re.findall(r"<section.*?</section>", html, flags=re.DOTALL)
    pages = [Page(part) for part in parts]
    return {page.lines[0]: "\n".join(page.lines[1:]) for page in pages}


def test_visible_text_is_the_golden_one(results: Results) -> None:
    """Checks all words and numbers of the page against the golden file (UPDATE_GOLDEN=1 writes it again)."""
    golden = HERE / "golden_report.txt"
    text = Page(render_html(results)).text + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_sections_are_in_order(results: Results) -> None:
    """Checks the headings against the agreed order of sections."""
    assert list(sections(render_html(results))) == SECTIONS


def test_same_results_give_the_same_bytes() -> None:
    """Checks pages of two processes with different hash seeds against one another."""
    code = "import hashlib; from reports.page import render_html\n"
    code += "from tests.reports.sample_results import make_results\n"
    code += "page = render_html(make_results())\n"
    code += "print(hashlib.sha256(page.encode()).hexdigest())"
    paths = str(HERE.parents[1])
    digests = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert digests[0] == digests[1]


def test_page_is_small() -> None:
    """Checks the size of a page of 24 runs x 8 steps against 400 kB, and of 144 long runs against 600 kB."""
    assert len(render_html(make_results()).encode()) < 400_000
    assert len(render_html(make_results(24, (0, 1, 2), steps=1000)).encode()) < 600_000


def test_page_is_self_contained(results: Results) -> None:
    """Checks every reference of the page: the empty icon, places inside the page, links to files beside it."""
    page = Page(render_html(results))
    references = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in {"href", "src", "srcset", "action", "data", "xlink:href", "poster", "clip-path"}
    ]
    assert references
    inside = re.compile(r"url\(#[\w-]+\)|#[\w-]+|(tables|figures)/[a-z0-9-]+\.(csv|tex|svg|pdf)")
    assert all(value == "data:," or inside.fullmatch(value or "") for value in references)
    style = re.search(r"<style>(.*?)</style>", render_html(results), flags=re.DOTALL)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_policy_forbids_everything_but_inline_style(results: Results) -> None:
    """Checks the page's content security policy against the agreed one, word for word."""
    policies = [meta for meta in Page(render_html(results)).named("meta") if "http-equiv" in meta]
    assert policies == [
        {
            "http-equiv": "Content-Security-Policy",
            "content": "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
        }
    ]


def test_page_is_accessible_by_structure(results: Results) -> None:
    """Checks headings, tables and figures against what a screen reader needs of them."""
    html = render_html(results)
    page = Page(html)
    assert page.named("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(page.named("caption")) == len(page.named("table")) > 0
    assert all(heading.get("scope") in {"row", "col"} for heading in page.named("th"))
    identities = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identities) == len(set(identities))
    for figure in page.named("svg"):
        assert figure["role"] == "img"
        assert set((figure["aria-labelledby"] or "").split()) <= set(identities)
    labels = {attributes["aria-labelledby"] for attributes in page.named("section")}
    assert labels <= set(identities)
    assert html.count("<svg") == html.count("<desc")


def test_verdict_comes_first_with_badge_and_numbers(results: Results) -> None:
    """Checks the first section against the results' verdict, estimate, interval, p and design."""
    first = sections(render_html(results))["Verdict"]
    for words in ["adadpo better", "Confirmatory", results.verdict, "p = .031", "over 6 settings", "6 × 2"]:
        assert words in first


def test_numbers_of_the_primary_test_are_all_there(results: Results) -> None:
    """Checks the test's section against each field of the comparison it shows."""
    text = sections(render_html(results))["Primary test"]
    for words in ["W+\n21", "W−\n0", ".03125", "Zeros\n0", "Ties\n0", "n\n6", "96.9%", "+1.00", "6, 0, 0"]:
        assert words in text
    assert "descriptive: it uses directions only and is not the declared test" in text
    assert "By itself it is never evidence of a difference" in text
    assert "dpo has no value (failed)" in text


def test_nothing_is_called_significant(results: Results) -> None:
    """Checks the words of the page: significance is spoken of in its name and in alpha only."""
    words = re.findall(r"\w*signific\w*", Page(render_html(results)).text, flags=re.IGNORECASE)
    assert {word.lower() for word in words} == {"significance"}


def test_changed_declaration_is_exploratory(results: Results) -> None:
    """Checks the page of a sweep whose declaration changed against each change listed in the results."""
    changes = ["alpha was 0.05, is 0.1", "primary was win_rate, is length_controlled_win_rate"]
    html = render_html(results.model_copy(update={"declaration_changed": changes}))
    found = sections(html)
    assert "EXPLORATORY" in found["Verdict"]
    assert "Confirmatory" not in found["Verdict"]
    assert all(change in found["What was declared"] for change in changes)
    assert "EXPLORATORY" not in Page(render_html(results)).text


@pytest.mark.parametrize(
    ("kind", "badge"),
    [
        ("better", "adadpo better"),
        ("worse", "adadpo worse"),
        ("inconclusive", "Inconclusive"),
        ("equivalent", "Practically equivalent"),
        ("untestable", "Not testable"),
    ],
)
def test_every_verdict_has_a_badge(results: Results, kind: str, badge: str) -> None:
    """Checks the badge against the kind of verdict."""
    html = render_html(changed(results, {"verdict_kind": kind}))
    assert badge in sections(html)["Verdict"]
    assert f'class="verdict {kind}"' in html


def test_sd_of_one_run_is_undefined_with_reason() -> None:
    """Checks a design of one seed: every SD is a dash that says why, never 0."""
    found = sections(render_html(make_results(3, (0,))))
    cells = found["Mean and SD per cell"]
    assert "SD needs at least 2 seeds" in cells
    assert not re.search(r"± 0(\.0+)?\b", cells)
    test = found["Primary test"]
    assert "this test cannot reach α = .05: its smallest p is .25" in test
    assert "with n = 3 no interval reaches 95%" in test
    assert "the achieved level" not in test


def test_page_without_any_result() -> None:
    """Checks a sweep of which no run exists: a page of dashes with reasons, no made-up number."""
    html = render_html(make_results(missing=True))
    found = sections(html)
    assert list(found) == [name for name in SECTIONS if name not in WITH_VALUES]
    assert "no setting has a complete pair of runs" in found["Verdict"]
    assert "no run has a value" in found["Mean and SD per cell"]
    assert "No curve was logged." in found["Training dynamics"]
    assert "No sample was kept." in found["Sample outputs"]
    assert "Runs without a result: 24" in found["Design and completeness"]
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", Page(html).text)


def test_empty_results_render(results: Results) -> None:
    """Checks that results without runs, cells, comparisons, metrics and provenance make a page at all."""
    lists = ["metrics", "runs", "cells", "comparisons", "curves", "samples", "failures"]
    empty = {name: [] for name in lists}
    html = render_html(
        results.model_copy(update={**empty, "provenance": {}, "counts": {}, "settings": [], "seeds": []})
    )
    text = Page(html).text
    for words in ["no comparison on the declared primary metric", "There is no run yet.", "No provenance"]:
        assert words in text


def test_not_a_number_is_shown_as_missing(results: Results) -> None:
    """Checks values that are not finite against the rule that undefined is a dash."""
    broken = results.cells[0].model_copy(update={"mean": float("nan"), "sd": float("inf")})
    html = render_html(changed(results, {"cells": [broken, *results.cells[1:]]}))
    assert "the value is not a finite number" in sections(html)["Mean and SD per cell"]


def test_many_settings() -> None:
    """Checks a large design: every setting is in the figure and in the table, and runs are folded."""
    results = make_results(24, (0, 1, 2))
    html = render_html(results)
    found = sections(html)
    for setting in results.settings:
        assert setting in found["Paired differences"]
        assert setting in found["Mean and SD per cell"]
    assert "<details>\n<summary>Table of runs</summary>" in html


def test_runs_table_has_every_run(results: Results) -> None:
    """Checks the table of runs against the runs of the results."""
    text = sections(render_html(results))["All runs"]
    assert all(run.run_id in text for run in results.runs)
    assert text.count("failed") == 1
    assert re.search(r"\d min \d\d s", text)


def test_arm_outside_the_comparison_is_shown(results: Results) -> None:
    """Checks a third arm: it has its column and its own style, apart from the compared two."""
    html = render_html(results.model_copy(update={"arms": {**results.arms, "simpo": {"loss": "simpo"}}}))
    assert 'class="arm arm-2">simpo' in html
    assert "no such cell in the results" in sections(html)["Mean and SD per cell"]


def test_neutral_and_lower_is_better_metrics_say_so(results: Results) -> None:
    """Checks the direction shown beside the plot against the metric's better direction."""
    lower = results.metrics[0].model_copy(update={"higher_is_better": False})
    flipped = results.model_copy(update={"metrics": [lower, *results.metrics[1:]]})
    assert "← dpo better" in render_html(results)
    assert "← adadpo better" in render_html(flipped)
    neutral = results.metrics[0].model_copy(update={"higher_is_better": None})
    assert "← dpo higher" in render_html(
        results.model_copy(update={"metrics": [neutral, *results.metrics[1:]]})
    )
