import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.comparison import setting_differences
from analysis.inference.crossed import CrossedTest, crossed_test, difference_table, setting_means
from analysis.results.table import pair_by_setting
from tests.analysis.analysis_examples import LC, sweep

NAN = float("nan")
# Drawn once; mean squares of d ~ C(setting) + C(seed) computed with statsmodels 0.15.0, anova_lm.
TABLE = [[2.66, -1.17, 1.3], [0.93, 1.8, 1.54], [-1.25, 1.3, 0.17], [5.29, 2.96, 1.88], [0.53, 0.91, 0.02]]
MS_SETTING, MS_SEED, MS_RUN = 4.96654333333333, 0.56414, 2.06862333333333


def by_regression(table: Any) -> tuple[float, float, float]:
    """Mean squares of settings, seeds and the rest, from residuals of regressions on dummies."""
    d = np.asarray(table, dtype=float)
    k, s = d.shape
    rows, columns = np.eye(k).repeat(s, axis=0), np.tile(np.eye(s), (k, 1))

    def rss(design: Any) -> float:
        fitted = design @ np.linalg.lstsq(design, d.ravel())[0]
        return float(((d.ravel() - fitted) ** 2).sum())

    both = rss(np.hstack([rows, columns]))
    return (rss(columns) - both) / (k - 1), (rss(rows) - both) / (s - 1), both / ((k - 1) * (s - 1))


def test_mean_squares() -> None:
    """Components and standard error against statsmodels' two-way ANOVA, and against regressions on dummies."""
    test = crossed_test(TABLE)
    assert by_regression(TABLE) == pytest.approx((MS_SETTING, MS_SEED, MS_RUN))
    assert test.components is not None
    expected = {"setting": (MS_SETTING - MS_RUN) / 3, "seed": (MS_SEED - MS_RUN) / 5, "run": MS_RUN}
    assert test.components.model_dump() == pytest.approx(expected)
    assert test.components.seed < 0  # unbiased, so not cut off at 0
    assert test.standard_error == pytest.approx(math.sqrt((MS_SETTING + MS_SEED - MS_RUN) / 15))
    df = (MS_SETTING + MS_SEED - MS_RUN) ** 2 / (MS_SETTING**2 / 4 + MS_SEED**2 / 2 + MS_RUN**2 / 8)
    assert df < 2  # so that the bound applies: min(K, S) - 1
    assert test.degrees_of_freedom == 2
    assert (test.settings, test.seeds, test.left_out_settings, test.left_out_seeds) == (5, 3, [], [])


def test_t_and_p() -> None:
    """t, p and interval against scipy.stats.t with the degrees of freedom of Satterthwaite's formula."""
    d = np.add.outer([3.0, 1, 2, 6, 4, 5], [0.0, 0.5, -0.5, 0.25]) + np.resize(
        [0.3, -0.1, 0.2, -0.4, 0.1], (6, 4)
    )
    ms_k, ms_s, ms_e = by_regression(d)
    combined = ms_k + ms_s - ms_e
    df = combined**2 / (ms_k**2 / 5 + ms_s**2 / 3 + ms_e**2 / 15)
    assert df > 3
    test = crossed_test(d)
    t = d.mean() / math.sqrt(combined / 24)
    assert (test.t, test.degrees_of_freedom) == (pytest.approx(t), pytest.approx(df))
    assert test.p_value == pytest.approx(2 * stats.t.sf(t, df))
    assert crossed_test(d, alternative="greater").p_value == pytest.approx(stats.t.sf(t, df))
    assert crossed_test(d, alternative="less").p_value == pytest.approx(stats.t.cdf(t, df))
    assert test.interval is not None
    low, high = stats.t.interval(0.95, df, loc=d.mean(), scale=math.sqrt(combined / 24))
    assert (test.interval.low, test.interval.high) == (pytest.approx(low), pytest.approx(high))


def test_without_seed_effects_it_is_the_t_test_over_settings() -> None:
    """A table whose columns are equal up to no seed effect and no noise against the t test of setting means."""
    means = np.array([1.0, 2.5, -0.5, 3.0, 1.5])
    test = crossed_test(np.tile(means[:, None], 3))
    expected = stats.ttest_1samp(means, 0)
    assert (test.t, test.p_value) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
    assert test.degrees_of_freedom == pytest.approx(4)


def test_variance_that_is_not_positive_does_not_reject() -> None:
    """Equal row and column means, equal differences and only zeros against no p-value and the reason."""
    checkerboard = [[2.0, 0.0], [0.0, 2.0]]  # MS_K = MS_S = 0 < MS_E
    for table in (checkerboard, np.full((4, 3), 0.1), np.zeros((4, 3))):
        test = crossed_test(table)
        assert (test.p_value, test.standard_error, test.t) == (None, None, None)
        assert test.reason is not None
        assert "not positive" in test.reason
        assert test.interval is not None
        assert (test.interval.low, test.interval.estimate) == (None, pytest.approx(np.mean(table)))
        assert test.components is not None


@pytest.mark.parametrize(
    ("table", "settings", "seeds", "left_out_settings", "left_out_seeds"),
    [
        # one setting with a gap: settings keep 6 pairs, seeds 6; settings are left out
        ([[1, 2, NAN], [3, 5, 4], [2, 2, 3]], 2, 3, [0], []),
        # a seed that is missing everywhere: leaving out settings would leave nothing
        ([[1, 2, NAN], [3, 5, NAN], [2, 2, NAN]], 3, 2, [], [2]),
        # leaving out settings would keep one row, of which there is no test
        ([[NAN, 2, 1], [NAN, 1, 3], [1, 3, 2]], 3, 2, [], [0]),
    ],
)
def test_missing_cells(
    table: Any, settings: int, seeds: int, left_out_settings: list[int], left_out_seeds: list[int]
) -> None:
    """What a table with gaps uses against the part without, and what it leaves out."""
    test = crossed_test(table)
    assert (test.settings, test.seeds) == (settings, seeds)
    assert (test.left_out_settings, test.left_out_seeds) == (left_out_settings, left_out_seeds)
    kept = np.delete(np.delete(np.array(table), left_out_settings, 0), left_out_seeds, 1)
    assert test.p_value == crossed_test(kept).p_value


def test_too_small() -> None:
    """One setting, one seed, gaps everywhere and no pair at all against the reason and the mean that there is."""
    for table, n in (([[1, 2, 3]], (1, 3)), ([[1], [2], [3]], (3, 1)), ([[1, NAN], [NAN, 3]], (0, 2))):
        test = crossed_test(table)
        assert test.reason == f"needs 2 settings and 2 seeds without a missing pair, has {n[0]} and {n[1]}"
        assert test.interval is not None
        assert (test.interval.estimate, test.interval.low, test.p_value) == (2, None, None)
        assert test.components is None
    assert crossed_test([[NAN, NAN]]).interval is None


TABLES = st.tuples(st.integers(2, 6), st.integers(2, 5)).flatmap(
    lambda shape: st.lists(
        st.lists(st.integers(-16, 16).map(lambda i: i / 4), min_size=shape[1], max_size=shape[1]),
        min_size=shape[0],
        max_size=shape[0],
    )
)


@given(TABLES, st.randoms(use_true_random=False), st.sampled_from([0.25, 2.0, 100.0]))
@settings(deadline=None, max_examples=60)
def test_symmetries(table: Any, random: Any, scale: float) -> None:
    """Swapped arms, shuffled settings and seeds, exchanged roles and another unit against the same test."""
    d = np.array(table)
    test, swapped, scaled = crossed_test(d), crossed_test(-d), crossed_test(scale * d)
    rows, columns = list(range(d.shape[0])), list(range(d.shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)
    for other in (swapped, scaled, crossed_test(d[rows][:, columns]), crossed_test(d.T)):
        assert (other.p_value is None) == (test.p_value is None)
        if test.p_value is not None:
            assert other.p_value == pytest.approx(test.p_value)
            assert other.degrees_of_freedom == pytest.approx(test.degrees_of_freedom)
    if test.p_value is not None:
        assert test.interval is not None
        assert swapped.interval is not None
        assert swapped.t == pytest.approx(-test.t)  # type: ignore[operator]
        assert swapped.interval.low == pytest.approx(-test.interval.high)  # type: ignore[operator]
        assert scaled.standard_error == pytest.approx(scale * test.standard_error)  # type: ignore[operator]
        # The interval inverts the test: at its bounds p is 1 - confidence.
        assert crossed_test(d - test.interval.low).p_value == pytest.approx(0.05)
    assert CrossedTest.model_validate_json(test.model_dump_json()) == test


@pytest.mark.parametrize("n_seeds", [3, 5, 10])
def test_components_are_unbiased_and_the_level_holds(n_seeds: int) -> None:
    """Mean components against the true ones, and type I errors against an earlier simulation: at most .072."""
    rng = np.random.default_rng(n_seeds)
    published = {3: (0.021, 0.048), 5: (0.040, 0.054), 10: (0.045, 0.072)}[n_seeds]
    n = 700
    for setting_sd, seed_sd in itertools.product((0.0, 1.0), repeat=2):
        d = rng.normal(size=(n, 9, n_seeds))
        d += setting_sd * rng.normal(size=(n, 9, 1)) + seed_sd * rng.normal(size=(n, 1, n_seeds))
        tests = [crossed_test(table) for table in d]
        rate = np.mean([test.p_value is not None and test.p_value <= 0.05 for test in tests])
        error = 4 * math.sqrt(0.05 * 0.95 / n)  # 0.033
        assert published[0] - error < rate < published[1] + error
        components = np.array([list(t.components.model_dump().values()) for t in tests if t.components])
        bias = components.mean(axis=0) - [setting_sd**2, seed_sd**2, 1.0]
        assert (np.abs(bias) < 4 * components.std(axis=0) / math.sqrt(n)).all()


def test_difference_table() -> None:
    """The table of a sweep's differences against its pairs, and its setting means against those of `compare`."""
    example = sweep([[1, "diverged"], ["failed", "failed"], [2, 4]])
    pairs = pair_by_setting(
        example["runs"],
        metric=LC.name,
        baseline="dpo",
        candidate="adadpo",
        settings=example["settings"],
        seeds=example["seeds"],
    )
    differences = setting_differences(pairs)
    table = difference_table(differences)
    np.testing.assert_array_equal(table, [[1, NAN], [NAN, NAN], [2, 4]])
    assert setting_means(table).tolist() == [k.mean for k in differences if k.mean is not None] == [1, 3]
    other = differences[0].model_copy(update={"values": differences[0].values[:1], "setting": "x"})
    with pytest.raises(ValueError, match=r"x has seeds \[0\], beta=0 has \[0, 1\]"):
        difference_table([differences[0], other])


def test_unusable() -> None:
    """Tables and options out of range against ValueError."""
    for table in ([1, 2], [[]], [[1, float("inf")]]):
        with pytest.raises(ValueError, match=r"table|finite"):
            crossed_test(table)
    with pytest.raises(ValueError, match="two-sided, greater, less, got 'x'"):
        crossed_test(TABLE, alternative="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="confidence"):
        crossed_test(TABLE, confidence=1)
