"""The pages against WCAG 2.2 AA, as axe-core finds it in Chromium: light, dark, and 320 pixels wide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from analysis.document import Results
from reports.page import render_audit, render_html
from reports.two_files import render_comparison
from tests.reports.compared_examples import make_compared, make_pairs
from tests.reports.sample_results import make_results

VIEWS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1200, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1200, "height": 900}},
    # 1.4.10: 1280 pixels at 400%
    "narrow": {"color_scheme": "light", "viewport": {"width": 320, "height": 640}},
}
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def pages(whole: Results) -> dict[str, str]:
    assert whole.audit is not None
    pairs = make_pairs()
    return {
        "report": render_html(whole),
        "report without a result": render_html(make_results(missing=True)),
        "audit": render_audit(whole.audit),
        "comparison of files": render_comparison(make_compared(pairs), pairs),
    }


@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing(browser: Browser, whole: Results, axe: str, view: str, tmp_path: Path) -> None:
    """Every page with everything unfolded: no violation, and nothing wider than the screen."""
    # The page's own policy forbids the script that examines it.
    context = browser.new_context(bypass_csp=True, **VIEWS[view])
    for name, html in pages(whole).items():
        file = tmp_path / "page.html"
        file.write_text(html, encoding="utf-8")
        page = context.new_page()
        page.goto(file.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
        page.evaluate(axe)
        found = page.evaluate("rules => axe.run({runOnly: rules})", RULES)
        problems = [
            (each["id"], node["html"][:200], node["failureSummary"][:300])
            for each in found["violations"]
            for node in each["nodes"]
        ]
        assert problems == [], name
        assert len(found["passes"]) > 15
        width = VIEWS[view]["viewport"]["width"]
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        page.close()
    context.close()


def test_axe_does_find(browser: Browser, axe: str) -> None:
    """Checks the check: grey on white, a table of figures without headings, a picture without a name."""
    page = browser.new_page()
    page.set_content(
        "<html><body><p style='color: #aaa; background: #fff'>pale words</p><svg role=img></svg></body></html>"
    )
    page.evaluate(axe)
    found = page.evaluate("rules => axe.run({runOnly: rules})", RULES)
    assert {"color-contrast", "svg-img-alt", "html-has-lang"} <= {each["id"] for each in found["violations"]}
    page.close()


def test_it_reads_from_the_top_by_keyboard(browser: Browser, whole: Results, tmp_path: Path) -> None:
    """The first tab stop is visible and leads to the verdict; every link of the contents has a target."""
    file = tmp_path / "page.html"
    file.write_text(render_html(whole), encoding="utf-8")
    page = browser.new_page()
    page.goto(file.as_uri())
    page.keyboard.press("Tab")
    focused = "document.activeElement"
    assert page.evaluate(f"{focused}.textContent") == "Skip to the verdict"
    assert page.evaluate(f"{focused}.getBoundingClientRect().top") >= 0
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")
    links = page.evaluate("[...document.querySelectorAll('nav a')].map(each => each.hash.slice(1))")
    assert len(links) > 10
    assert all(page.evaluate("id => document.getElementById(id) !== null", link) for link in links)
    page.close()


def test_everything_folded_is_printed(browser: Browser, whole: Results, tmp_path: Path) -> None:
    """On paper the table of runs is there although it is folded on the screen; prompts of samples too."""
    file = tmp_path / "page.html"
    file.write_text(render_html(whole), encoding="utf-8")
    page = browser.new_page()
    page.goto(file.as_uri())
    height = "document.querySelector('details:not([open])').getBoundingClientRect().height"
    assert page.evaluate(height) < 60
    page.emulate_media(media="print")
    assert page.evaluate(height) > 100
    page.close()
