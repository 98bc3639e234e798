"""The page in a real browser, whose every request goes to a proxy of ours."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from analysis.document import Results
from reports.page import render_html
from reports.two_files import render_comparison
from tests.reports.compared_examples import make_compared, make_pairs, score
from tests.reports.page_text import Page
from tests.reports.sample_results import changed

# Chromium itself calls home at times, whatever the page; the page cannot ask for these.
BROWSER_HOSTS = ("google.com", "googleapis.com", "gvt1.com", "gstatic.com")
LEAKS = (
    '<img src="http://leak.test/image"><script src="http://leak.test/script"></script>'
    '<link rel="stylesheet" href="http://leak.test/style"><iframe src="http://leak.test/frame"></iframe>'
)


class Proxy(ThreadingHTTPServer):
    """Serves one page as http://report.test/ and writes down every request."""

    def __init__(self, page: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.page = page.encode("utf-8")
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        known = self.path == "http://report.test/"
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.server.page if known else b"")

    def do_CONNECT(self) -> None:
        self.server.asked.append(f"https://{self.path}")
        self.send_error(403)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[object]:
    running: list[Proxy] = []

    def start(page: str) -> Proxy:
        server = Proxy(page)
        running.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def dump(chromium: str, proxy: Proxy, profile: Path) -> str:
    """The page's DOM after loading."""
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={profile}", f"--proxy-server=http://127.0.0.1:{proxy.server_port}"]
    command += ["--dump-dom", "http://report.test/"]
    done = subprocess.run(command, capture_output=True, timeout=180, check=True)
    return done.stdout.decode("utf-8")


def of_the_page(asked: list[str]) -> set[str]:
    return {url for url in asked if not (urlsplit(url).hostname or "").endswith(BROWSER_HOSTS)}


def test_browser_shows_the_page_and_asks_for_nothing(
    results: Results, chromium: str, serve: object, tmp_path: Path
) -> None:
    """Checks the page as Chromium renders it against its verdict, and its requests against the page alone."""
    assert callable(serve)
    sample = results.samples[0].model_copy(update={"output": LEAKS, "instruction": LEAKS})
    hostile = changed(results, {"samples": [sample], "sweep": LEAKS})
    proxy = serve(render_html(hostile))
    page = Page(dump(chromium, proxy, tmp_path))
    assert results.verdict in page.text
    assert len(page.named("svg")) == 18
    assert not page.named("script")
    assert not page.named("iframe")
    assert of_the_page(proxy.asked) == {"http://report.test/"}


def test_comparison_asks_for_nothing(chromium: str, serve: object, tmp_path: Path) -> None:
    """Checks the page that compares two files, full of attacks, as Chromium renders it, and its requests."""
    assert callable(serve)
    pairs = make_pairs(text=LEAKS)
    hostile = make_compared(pairs, a=score("a", generator=LEAKS, source=LEAKS), b=score("b", judge=LEAKS))
    proxy = serve(render_comparison(hostile, pairs))
    page = Page(dump(chromium, proxy, tmp_path))
    assert "A wins, B loses: 4 prompts" in page.text
    assert len(page.named("details")) == 12
    assert len(page.named("svg")) == 1
    assert not page.named("script")
    assert not page.named("iframe")
    assert not page.named("img")
    assert of_the_page(proxy.asked) == {"http://report.test/"}


def test_the_proxy_sees_requests(chromium: str, serve: object, tmp_path: Path) -> None:
    """Checks the check: a page that does ask for an image is caught."""
    assert callable(serve)
    proxy = serve("<!doctype html><img src='http://leak.test/image'>")
    dump(chromium, proxy, tmp_path)
    assert "http://leak.test/image" in of_the_page(proxy.asked)
