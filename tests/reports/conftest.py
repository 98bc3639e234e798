import pytest
from sample_results import make_results

from analysis.results import Results


@pytest.fixture(scope="session")
def results() -> Results:
    return make_results()
