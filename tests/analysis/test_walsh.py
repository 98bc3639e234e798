import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.inference import intervals as walsh
from analysis.inference.intervals import WalshAverages

DIFFERENCES = st.lists(
    st.one_of(st.integers(-3, 3).map(float), st.floats(-1e300, 1e300), st.floats(-1, 1)),
    min_size=1,
    max_size=12,
)


@given(DIFFERENCES, st.one_of(st.integers(-3, 3).map(float), st.floats(-1, 1)))
@settings(deadline=None, max_examples=50)
def test_averages_that_are_not_held(d: list[float], value: float) -> None:
    """Every order statistic and a count by bisection against all averages, sorted: equal to the last bit."""
    values = np.array(d)
    averages = sorted(values[i] / 2 + values[j] / 2 for i in range(len(d)) for j in range(i, len(d)))
    for most in (walsh.MOST_HELD, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(walsh, "MOST_HELD", most)
            found = WalshAverages(values)
            assert [found.smallest(place + 1) for place in range(len(averages))] == averages
            assert found.at_most(value) == sum(average <= value for average in averages)
            assert found.at_most(averages[len(averages) // 2]) == sum(
                average <= averages[len(averages) // 2] for average in averages
            )


def test_many_differences() -> None:
    """The middle, the ends and a count of 3,000 differences against all 4.5 million averages."""
    d = np.random.default_rng(0).normal(size=3000)
    first, second = np.triu_indices(len(d))
    averages = np.sort(d[first] / 2 + d[second] / 2)
    found = WalshAverages(d)
    for place in (1, 2, 1000, len(averages) // 2, len(averages)):
        assert found.smallest(place) == averages[place - 1]
    assert found.at_most(0.1) == (averages <= 0.1).sum()
