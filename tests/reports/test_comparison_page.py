"""The page that compares two annotation files, against the numbers it was made from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adadpo.errors import FailureError
from analysis.alpaca_eval.integrity_gate import Flag
from analysis.prompts.paired import PromptPair
from reports.sections.flips import MOST
from reports.two_files import finding, render_comparison, write_comparison
from tests.reports.compared_examples import difference, make_compared, make_pairs, score
from tests.reports.page_text import Page
from tests.reports.test_report_hostile import ATTACK, ATTRIBUTES, TAGS

LC = "length_controlled_win_rate"
QUARANTINE = Flag(name="empty_outputs", severity="quarantine", message="6 of 12 outputs are empty", values={})


@pytest.mark.parametrize(
    ("lc", "kind", "sentence"),
    [
        (
            difference(LC, "LC win rate", 3.25, 0.012),
            "better",
            "model-a (A) scores higher than model-b (B) on LC win rate: +3.2 points (95% interval +0.8 to +5.8), "
            "paired prompt bootstrap over 12 prompts, p = .012.",
        ),
        (difference(LC, "LC win rate", -3.25, 0.0004), "worse", "scores lower than model-b (B)"),
        (difference(LC, "LC win rate", 0.5, 0.62), "inconclusive", "Undecided. "),
        (
            difference(LC, "LC win rate", None, None, "sd 0"),
            "inconclusive",
            "on Win rate: +2.0 points",
        ),
        (
            difference(LC, "LC win rate", 3.0, None, "too few draws"),
            "untestable",
            "LC win rate: too few draws",
        ),
    ],
)
def test_the_sentence(lc: object, kind: str, sentence: str) -> None:
    """The finding of each kind: estimate, interval, p, unit and n, and never "no difference"."""
    found = finding(make_compared(make_pairs(), lc))  # type: ignore[arg-type]
    assert found.kind == kind
    assert sentence in found.sentence


def test_quarantine_comes_first() -> None:
    """A significant difference of a quarantined file: it does not count, and the reason is said."""
    compared = make_compared(make_pairs(), b=score("b", [QUARANTINE]))
    found = finding(compared)
    assert found.kind == "untestable"
    assert "model-b (B): 6 of 12 outputs are empty" in found.sentence
    page = Page(render_comparison(compared, make_pairs()))
    assert "Does not count" in page.text
    verdict = page.text.split("Win rates and their difference")[0]
    assert "a quarantined file does not count" in verdict
    assert "p = .012" not in verdict


def test_the_page_says_it_all() -> None:
    """Words and numbers of every section against the comparison."""
    pairs = make_pairs()
    text = Page(render_comparison(make_compared(pairs), pairs)).text
    for words in (
        "A scores higher",
        "+3.2",
        "[+0.8, +5.8]",
        ".012",
        "12 prompts; baseline gpt4; judge weighted.",
        "LC method: no_difficulty.",
        "Nothing was found that would keep either file from counting.",
        "A better, tied, B better\n4, 6, 2",
        "A wins, B loses: 4 prompts",
        "B wins, A loses: 2 prompts",
        "2,000 draws, seed 0",
        "runs/a/annotations.json",
        "a" * 64,
    ):
        assert words in text, words


def test_flipped_prompts_are_sorted_and_side_by_side() -> None:
    """The largest difference first in each direction; both answers and the baseline's; others are left out."""
    pairs = make_pairs()
    html = render_comparison(make_compared(pairs), pairs)
    shown = re.findall(r"<summary><span class=\"gain\">(.+?)</span> Question (\d+)</summary>", html)
    assert shown == [("+80", "0"), ("+77", "3"), ("+74", "6"), ("+71", "9"), ("−58", "8"), ("−54", "4")]
    text = Page(html).text
    for answer in ("Mine 8", "Theirs 8", "Base 8"):
        assert answer in text
    assert "Mine 5" not in text


def test_undefined_is_shown_with_its_reason() -> None:
    """No LC: a dash and the reason, no raw win rate in its place."""
    pairs = make_pairs()
    lc = difference(LC, "LC win rate", None, None, "all lengths are equal")
    html = render_comparison(make_compared(pairs, lc), pairs)
    row = re.search(r"<tr><th scope=\"row\">LC win rate \(%\)</th>(.*?)</tr>", html, re.S)
    assert row is not None
    assert row[1].count('class="missing"') == 5  # A, A - B, SE, interval, p; B's is defined
    assert "–: all lengths are equal" in Page(html).text


def test_what_is_left_out_is_said() -> None:
    """Prompts left out at the user's request, and those without a preference."""
    pairs = make_pairs()
    text = Page(render_comparison(make_compared(pairs, only_a=3, unjudged=2), pairs)).text
    assert "3 prompts only in A and 0 only in B are left out" in text
    assert "2 prompts without a preference on one side or both" in text


def test_nothing_flipped() -> None:
    """Two equal models: the page says none, in both directions."""
    pairs = [PromptPair(f"Q{i}", "x", "y", "z", 1.2, 1.2) for i in range(5)]
    text = Page(render_comparison(make_compared(pairs), pairs)).text
    assert text.count("None.") == 2


@pytest.mark.parametrize("text", ["<", "𝕏", "\u202e", "x"])
def test_the_page_stays_small(text: str) -> None:
    """805 flipped prompts of long, wide or hostile answers: below 2 MB, and what is not shown is counted."""
    pairs = [
        PromptPair(f"Q{i} {text * 5000}", text * 9000, text * 9000, text * 9000, 1.9, 1.1) for i in range(805)
    ]
    html = render_comparison(make_compared(pairs), pairs)
    assert len(html.encode()) < 2_000_000
    shown = html.count('<details class="flip">')
    assert 10 <= shown <= MOST
    assert f"{805 - shown} more prompts flipped this way with smaller or equal differences" in html
    assert "Cut: the first 1,500 of 9,000 characters are shown." in html


def test_markup_in_any_string_changes_no_tag() -> None:
    """Tags and attributes of a page full of attacks against those of a harmless one."""

    def page(text: str) -> Page:
        pairs = make_pairs(text=text)
        flag = Flag(name="x", severity="quarantine", message=text, values={})
        names = {"generator": "g" + text, "baseline": "b" + text, "judge": "j" + text, "source": "s" + text}
        lc = difference(LC, "LC win rate", None, None, text)
        sides = {letter: score(letter, [flag], **names) for letter in "ab"}
        return Page(render_comparison(make_compared(pairs, lc, **sides), pairs))

    attacked, harmless = page(ATTACK), page("m" * len(ATTACK))
    assert "<script>alert(1)</script>" in attacked.text
    shape = [[(tag, list(attributes)) for tag, attributes in each.tags] for each in (attacked, harmless)]
    assert shape[0] == shape[1]
    assert {tag for tag, _ in attacked.tags} <= set(TAGS.split())
    assert {name for _, attributes in attacked.tags for name in attributes} <= set(ATTRIBUTES.split())


@pytest.mark.parametrize("text", ["\ud800", "\u202eevil", "\x00", "\x1b[31m", "\U000e0041"])
def test_invisible_characters_are_shown(text: str, tmp_path: Path) -> None:
    """Characters that break or reorder text reach the file as code points only."""
    pairs = make_pairs(text=text)
    written = write_comparison(
        make_compared(pairs, a=score("a", generator=text)), pairs, tmp_path / "page.html"
    )
    content = written.read_text(encoding="utf-8")
    assert text[0] not in content
    assert f"⟨U+{ord(text[0]):04X}⟩" in content


def test_same_arguments_same_bytes(tmp_path: Path) -> None:
    """Twice the same page; a path that cannot be written is this package's error."""
    pairs = make_pairs()
    assert render_comparison(make_compared(pairs), pairs) == render_comparison(make_compared(pairs), pairs)
    with pytest.raises(FailureError, match="cannot write"):
        write_comparison(make_compared(pairs), pairs, tmp_path)
