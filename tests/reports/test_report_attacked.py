"""A page full of attacks in Chromium, without the page's own policy: escaping alone must hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from analysis.document import Results
from reports.files import write_report
from tests.reports.test_report_hostile import attacked_by

MARKUP = (
    "\"'><script>window.canary = 1; document.title = 'taken'; alert(1)</script>"
    "<img src=http://leak.test/image onerror='window.canary = 2'><svg onload='window.canary = 3'></svg>"
    "<a href='javascript:window.canary = 4'>x</a><iframe src=http://leak.test/frame></iframe>"
    "</style></svg></pre></details></section><style>@import 'http://leak.test/style'; main {display: none}</style>"
    "<base href=http://leak.test/><meta http-equiv=refresh content='0;url=http://leak.test/'>"
    "<form action=http://leak.test/><input autofocus onfocus='window.canary = 5'></form> ' onmouseover='canary = 6"
)
BROKEN = "\u202e\u2066\ud800\x00\x1b[31m\\input{/etc/passwd}\\write18{touch x}\\end{document}%$&#_^~{}"
LINE = "m" * 1_000_000
ATTACKS = {"markup": MARKUP, "broken text": BROKEN, "a megabyte": MARKUP + LINE}

# Metrics of our own, by which sections find their values.
OURS = {"length_controlled_win_rate", "win_rate", "kl", "mean_length"}


def told(browser: Browser, file: Path) -> dict[str, Any]:
    """What a page does when it is loaded, unfolded and clicked: requests, dialogs, messages, and what is left of it."""
    context = browser.new_context(bypass_csp=True)
    page = context.new_page()
    heard: dict[str, list[str]] = {"requests": [], "dialogs": [], "messages": []}
    page.on("request", lambda request: heard["requests"].append(request.url))
    page.on("console", lambda message: heard["messages"].append(message.text))
    page.on("pageerror", lambda error: heard["messages"].append(str(error)))

    def dismiss(dialog: Any) -> None:
        heard["dialogs"].append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    page.goto(file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    page.evaluate(
        "document.querySelectorAll('body *').forEach(each => each.dispatchEvent(new Event('mouseover')))"
    )
    page.wait_for_timeout(200)
    seen: dict[str, Any] = page.evaluate(
        """() => ({
            canary: window.canary ?? null,
            title: document.title,
            address: location.href,
            sections: [...document.querySelectorAll('main > section')]
                .map(each => each.getAttribute('aria-labelledby')),
            shown: [...document.querySelectorAll('main > section')].every(each => each.offsetHeight > 20),
            tags: [...new Set([...document.querySelectorAll('*')].map(each => each.localName))].sort(),
            links: [...document.querySelectorAll('[href]')].map(each => each.getAttribute('href')),
            handlers: [...document.querySelectorAll('*')].flatMap(each => each.getAttributeNames())
                .filter(name => name.startsWith('on')),
        })"""
    )
    context.close()
    return heard | seen


@pytest.fixture(scope="module")
def harmless(browser: Browser, whole: Results, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return told(browser, write_report(whole, tmp_path_factory.mktemp("harmless"))[0])


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_runs_asks_or_breaks(
    browser: Browser, whole: Results, harmless: dict[str, Any], attack: str, tmp_path: Path
) -> None:
    """Every string of the results, names and keys included, with the attack; the page against a harmless one."""
    attacked = attacked_by(whole, lambda text: text if text in OURS else text + ATTACKS[attack])
    file = write_report(attacked, tmp_path)[0]
    found = told(browser, file)
    assert found["canary"] is None
    assert found["title"] != "taken"
    assert found["dialogs"] == found["messages"] == found["handlers"] == []
    inside = {"data:,", file.as_uri()}
    assert {url for url in found["requests"] if url not in inside} == set()
    assert found["address"] == file.as_uri()
    assert found["sections"] == harmless["sections"]
    assert len(found["sections"]) > 20
    assert found["shown"]
    assert set(found["tags"]) <= set(harmless["tags"])
    assert all(
        link.startswith(("#", "data:,", "figures/", "tables/", "latex/")) or ":" not in link
        for link in found["links"]
    )


def test_the_watch_would_see_it(browser: Browser, tmp_path: Path) -> None:
    """Checks the check: the attack as it is, unescaped, runs, asks and speaks."""
    file = tmp_path / "page.html"
    file.write_text(
        "<!doctype html><title>t</title><main><img src=http://leak.test/image><script>"
        "window.canary = 1; alert('here'); console.log('said')</script></main>",
        encoding="utf-8",
    )
    found = told(browser, file)
    assert found["canary"] == 1
    assert found["dialogs"] == ["here"]
    assert "said" in found["messages"]
    assert "http://leak.test/image" in found["requests"]
