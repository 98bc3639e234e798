import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.results.table import SeedSpread, spread_over_seeds


def test_factors_of_three_seeds() -> None:
    """The interval of an SD of 3 values against s sqrt((n - 1) / chi2): x[0.52, 6.28]."""
    spread = spread_over_seeds([1.0, 2.0, 3.0])  # SD 1
    assert spread.sd is not None
    assert (spread.sd.estimate, spread.sd.low, spread.sd.high) == (
        1,
        pytest.approx(0.52, abs=0.005),
        pytest.approx(6.28, abs=0.005),
    )
    assert (spread.n, spread.reason) == (3, None)


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=12), st.sampled_from([0.9, 0.95]))
@settings(deadline=None, max_examples=50)
def test_scipy(values: list[int], confidence: float) -> None:
    """Both intervals against scipy.stats' t and chi2; at the SD's bounds the chi-square test has p = 1 - confidence."""
    spread = spread_over_seeds(values, confidence)
    assert spread.sd is not None
    assert spread.mean is not None
    assert spread.sd.estimate == pytest.approx(np.std(values, ddof=1))
    if len(set(values)) == 1:
        assert (spread.sd.low, spread.mean.low) == (None, None)
        assert spread.reason is not None
        return
    t = stats.ttest_1samp(values, 0).confidence_interval(confidence)
    assert (spread.mean.low, spread.mean.high) == (pytest.approx(t.low), pytest.approx(t.high))
    df = len(values) - 1
    for bound, tail in ((spread.sd.low, stats.chi2.sf), (spread.sd.high, stats.chi2.cdf)):
        assert bound is not None
        assert tail(df * spread.sd.estimate**2 / bound**2, df) == pytest.approx((1 - confidence) / 2)
    assert SeedSpread.model_validate_json(spread.model_dump_json()) == spread


def test_undefined_is_said() -> None:
    """No seed, one seed and missing values against None with the reason, never 0."""
    nothing = spread_over_seeds([None, float("nan")])
    assert (nothing.n, nothing.mean, nothing.sd, nothing.reason) == (0, None, None, "no seed has a value")
    one = spread_over_seeds([None, 4.0])
    assert one.mean is not None
    assert (one.n, one.mean.estimate, one.mean.low, one.sd) == (1, 4, None, None)
    assert one.reason == "an SD needs at least 2 seeds, got 1"
    assert spread_over_seeds([1, None, 3]) == spread_over_seeds([1, 3])


def test_coverage_against_the_percentile_bootstrap() -> None:
    """Coverage of the t interval, .95, and of the percentile bootstrap, .67 at n = 3 and .84 at 5."""
    rng = np.random.default_rng(0)
    for n, published in ((3, 0.67), (5, 0.84)):
        samples = rng.normal(size=(1500, n))
        resamples = np.array(list(itertools.product(range(n), repeat=n)))  # all n^n
        low, high = np.quantile(samples[:, resamples].mean(axis=2), [0.025, 0.975], axis=1)
        assert np.mean((low <= 0) & (high >= 0)) == pytest.approx(published, abs=0.04)
        intervals = [spread_over_seeds(sample).mean for sample in samples[:600]]
        covered = [
            i is not None and i.low is not None and i.high is not None and i.low <= 0 <= i.high
            for i in intervals
        ]
        assert np.mean(covered) == pytest.approx(0.95, abs=0.036)  # 4 standard errors


def test_unusable() -> None:
    """Infinite values and a level out of range against ValueError."""
    with pytest.raises(ValueError, match="finite"):
        spread_over_seeds([1.0, float("inf")])
    with pytest.raises(ValueError, match="confidence"):
        spread_over_seeds([1.0, 2.0], 1.0)
