"""Strings that attack the page, the file or the spreadsheet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.document import Results
from analysis.results.model import Sample
from reports.files import load_results, write_report
from reports.page import render_html
from reports.render.text import clean
from tests.reports.page_text import Page
from tests.reports.sample_results import changed, make_results

ATTACK = (
    "\"'><script>alert(1)</script><img src=http://evil.test/x onerror=alert(1)></style></svg>"
    "<!-- ]]> {{ 7 * 7 }} {% raw %} onload=alert(1) javascript:alert(1) &lt;b&gt;"
)
LITERALS = {"state", "stage", "promised", "alternative", "zero_method", "verdict_kind", "counts", "kind"}
# Tests of ours, whose words are ours
LITERALS |= {"inference", "next_steps", "power"}
TAGS = """
    html head meta link title style body header main nav a ol section article h1 h2 h3 h4 p div span strong small ul
    li blockquote pre
    dl dt dd table caption thead tbody tr th td details summary figure figcaption svg desc g text line rect
    circle polygon path clippath
"""
ATTRIBUTES = """
    lang charset http-equiv content name rel href class id role tabindex title scope open dir aria-label
    aria-labelledby aria-hidden viewbox x y x1 x2 y1 y2 cx cy r d points width height clip-path text-anchor
"""


def rewritten(value: Any, change: Callable[[str], str], key: str = "") -> Any:
    """The value with every free string changed, keys of open dictionaries included."""
    if key in LITERALS:
        return value
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [rewritten(each, change) for each in value]
    if isinstance(value, dict) and value.get("kind") in LITERALS:
        return value
    if isinstance(value, dict) and value.get("kind") == "verdict":
        return value | {"sentence": change(value["sentence"])}
    if isinstance(value, dict):
        open_keys = (
            key in {"axes", "arms", "provenance", "metrics", "hyperparameters", "decoding"} or key == "arm"
        )
        return {
            change(name) if open_keys else name: rewritten(each, change, "arm" if key == "arms" else name)
            for name, each in value.items()
        }
    return value


def attacked_by(results: Results, change: Callable[[str], str]) -> Results:
    return Results.model_validate(rewritten(results.model_dump(), change))


def test_markup_in_any_string_changes_no_tag(results: Results) -> None:
    """Checks the tags and attributes of a page full of attacks against those of a harmless one."""
    attacked = Page(render_html(attacked_by(results, lambda text: text + ATTACK)))
    harmless = Page(render_html(attacked_by(results, lambda text: text + "m" * len(ATTACK))))
    assert "<script>alert(1)</script>" in attacked.text
    assert "{{ 7 * 7 }}" in attacked.text
    shape = [[(tag, list(attributes)) for tag, attributes in page.tags] for page in (attacked, harmless)]
    assert shape[0] == shape[1]
    assert {tag for tag, _ in attacked.tags} <= set(TAGS.split())
    assert {name for _, attributes in attacked.tags for name in attributes} <= set(ATTRIBUTES.split())


def test_attack_alone_as_every_string(results: Results) -> None:
    """Checks a page where all names are one and the same attack: no unknown tag, no handler attribute."""
    page = Page(render_html(attacked_by(results, lambda text: ATTACK)))
    assert {tag for tag, _ in page.tags} <= set(TAGS.split())
    assert {name for _, attributes in page.tags for name in attributes} <= set(ATTRIBUTES.split())


@pytest.mark.parametrize(
    "text", ["\ud800", "\udfff a", "\u202eevil", "\u2066x", "\x00", "\x1b[31m", "\r", "\u2028", "\U000e0041"]
)
def test_invisible_characters_are_shown(results: Results, tmp_path: Path, text: str) -> None:
    """Checks that characters that break or reorder text reach neither page nor CSV, but as code points."""
    nasty = attacked_by(results, lambda whole: whole + text + "end")
    page, *exports = write_report(nasty, tmp_path)
    html = page.read_bytes().decode("utf-8")
    marker = next(char for char in text if char != " " and clean(char) != char)
    assert marker not in html
    assert f"⟨U+{ord(marker):04X}⟩" in html
    for file in exports:
        if file.suffix != ".pdf":
            assert marker not in file.read_bytes().decode("utf-8")


def test_lone_surrogate_in_the_file_is_read(results: Results, tmp_path: Path) -> None:
    """Checks a results.json with a JSON-escaped lone surrogate: it loads and renders."""
    path = tmp_path / "results.json"
    path.write_text(results.model_dump_json().replace("Apples", "\\ud83d Apples", 1), encoding="utf-8")
    assert "⟨U+D83D⟩ Apples" in render_html(load_results(path))


def test_ordinary_text_is_left_alone() -> None:
    """Checks that languages, emoji sequences, tabs and line ends pass unchanged (CRLF becomes LF)."""
    text = "Grüße, 你好, مرحبا, नमस्ते, 👩‍🔬\n\tπ ≠ −3"
    assert clean(text) == text
    assert clean("a\r\nb") == "a\nb"


def test_megabyte_strings_are_cut_visibly(results: Results) -> None:
    """Checks the page's size and notes when answers, prompts and names are a million characters long."""
    long = "x" * 1_000_000
    sample = Sample(
        arm="adadpo", setting="s", seed=0, instruction=long, baseline_output=long, output=long, preference=2
    )
    html = render_html(changed(results, {"samples": [sample], "verdict": long, "audit": None}))
    assert "Cut: the first 1,500 of 1,000,000 characters are shown." in html
    assert len(html) < 130_000
    everywhere = attacked_by(make_results(2, (0,), 3), lambda text: text + " " + long)
    assert len(render_html(everywhere)) < 3_000_000


def test_many_samples_are_limited_and_counted(results: Results) -> None:
    """Checks the note under the samples against how many were left out."""
    html = render_html(changed(results, {"samples": results.samples * 50}))
    assert "276 more samples in results.json." in html
