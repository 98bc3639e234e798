from collections.abc import Iterator
from importlib.resources import files

import pytest
from playwright.sync_api import Browser, sync_playwright

from analysis.document import Results
from tests.reports.outside_tools import needed
from tests.reports.sample_results import make_results
from tests.reports.whole_sample import make_whole


@pytest.fixture(scope="session")
def results() -> Results:
    return make_results()


@pytest.fixture(scope="session")
def whole() -> Results:
    """Results in which every section has something to show."""
    return make_whole()


@pytest.fixture(scope="session")
def chromium() -> str:
    return needed("chromium", "chromium")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Chromium, driven; for one module, since the driver's event loop would be in the way of others."""
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
