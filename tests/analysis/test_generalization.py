"""Against Student's t, the three-way analysis of variance, a bootstrap by hand, and the test's own properties."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analysis.inference.crossed import crossed_test, mean_squares
from analysis.inference.generalization import (
    DifferenceDraws,
    generalization_rejects,
    generalization_test,
    out_of_reach,
    prompt_part,
    unseen_share,
)
from analysis.prompts.bootstrap import prompt_bootstrap

RNG = np.random.default_rng(20)
TABLES = hnp.arrays(
    np.float64,
    st.tuples(st.integers(2, 6), st.integers(2, 4)),
    elements=st.floats(-50, 50).map(lambda x: round(x, 3)),
)


def effects(settings: int = 9, seeds: int = 3, **sds: float) -> Any:
    """A table with effects of settings and seeds of these SDs; runs have SD 1."""
    return (
        RNG.standard_normal((settings, seeds))
        + sds.get("setting", 0) * RNG.standard_normal((settings, 1))
        + sds.get("seed", 0) * RNG.standard_normal((1, seeds))
    )


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
@pytest.mark.parametrize("axis", [0, 1])
def test_where_one_kind_varies(axis: int, alternative: Any) -> None:
    """Seeds that agree, or settings that do, against scipy's t test over the others."""
    values = RNG.standard_normal(7) + 0.8
    table = np.repeat(np.expand_dims(values, 1 - axis), 4, axis=1 - axis)
    found = generalization_test(table, alternative=alternative, narrow=0.8)
    expected = scipy.stats.ttest_1samp(values, 0, alternative=alternative)
    two_sided = scipy.stats.ttest_1samp(values, 0)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    for interval, level in ((found.interval, 0.95), (found.narrow, 0.8)):
        assert interval is not None
        bounds = two_sided.confidence_interval(level)
        assert (interval.low, interval.high) == pytest.approx((bounds.low, bounds.high), rel=1e-9)
    assert found.standard_error == pytest.approx(values.std(ddof=1) / math.sqrt(7))


def test_half_width_by_hand() -> None:
    """The formula of the docstring with scipy's quantiles and mean squares by numpy's variances."""
    table = effects(setting=1, seed=1) + 0.5
    k, s = table.shape
    ms_k, ms_s = s * table.mean(axis=1).var(ddof=1), k * table.mean(axis=0).var(ddof=1)
    within = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    ms_e = (within**2).sum() / (k - 1) / (s - 1)
    assert mean_squares(table) == pytest.approx((ms_k, ms_s, ms_e))

    def half(q: float) -> float:
        t_k, t_s, t_e = (scipy.stats.t.isf(q, df) for df in (k - 1, s - 1, (k - 1) * (s - 1)))
        square = max(ms_k * t_k**2 + ms_s * t_s**2 - ms_e * t_e**2, ms_k * t_k**2, ms_s * t_s**2)
        return float(np.sqrt(square / (k * s)))

    found = generalization_test(table, confidence=0.9)
    assert found.interval is not None
    assert found.interval.high is not None
    assert found.interval.high - table.mean() == pytest.approx(half(0.05))
    assert found.p_value is not None
    assert half(found.p_value / 2) == pytest.approx(abs(table.mean()))  # p inverts the interval
    assert found.standard_error == pytest.approx(np.sqrt(max(ms_k + ms_s - ms_e, ms_k, ms_s) / (k * s)))


def test_prompts_against_a_three_way_analysis_of_variance() -> None:
    """The shared part and the whole against mean squares of settings x seeds x prompts, with the exact bootstrap."""
    k, s, n = 4, 3, 50
    y = (
        0.6 * RNG.standard_normal((1, 1, n))
        + 0.3 * RNG.standard_normal((k, 1, n))
        + 0.2 * RNG.standard_normal((1, s, n))
        + RNG.standard_normal((k, s, n))
        + RNG.standard_normal((k, s, 1))
    )
    centred = y - y.mean(axis=2, keepdims=True)
    # n "draws" whose covariances are exactly those of the bootstrap over prompts, sum of products / n^2
    exact = y.mean(axis=2, keepdims=True) + centred * np.sqrt((n - 1) / n**2)
    found, reason = prompt_part(DifferenceDraws(exact, n))
    assert reason is None
    assert found is not None

    def mean_square(*kept: int) -> float:
        """Of an interaction with prompts, by inclusion and exclusion of cell means."""
        part = np.zeros_like(y)
        for subset in range(2 ** len(kept)):
            axes = [axis for place, axis in enumerate(kept) if subset >> place & 1]
            others = tuple(axis for axis in range(3) if axis not in axes)
            mean = y.mean(axis=others, keepdims=True) if others else y
            part = part + (-1) ** (len(kept) - len(axes)) * mean
        degrees = np.prod([y.shape[axis] - 1 for axis in kept])
        return float((part**2).sum() / degrees)

    ms_p, ms_kp, ms_sp, ms_ksp = (mean_square(*kept) for kept in ((2,), (0, 2), (1, 2), (0, 1, 2)))
    assert found.shared == pytest.approx((ms_p - ms_kp - ms_sp + ms_ksp) / (k * s * n), rel=1e-9)
    assert found.total == pytest.approx(ms_p / (k * s * n), rel=1e-9)
    # and the generalization test: what the prompts share adds to the squared half-width, by its own t
    table, draws = y.mean(axis=2), DifferenceDraws(exact, n)
    widths = [generalization_test(table, each).interval for each in (None, draws)]
    without, with_prompts = ((each.high - each.estimate) ** 2 for each in widths if each and each.high)
    t = scipy.stats.t.isf(0.025, n - 1)
    assert with_prompts - without == pytest.approx(t**2 * found.shared, rel=1e-9)


def test_prompts_that_are_all_there_is() -> None:
    """Runs that differ only by prompts, every pair alike, against scipy's t test over prompts."""
    n = 60
    of_prompt = RNG.standard_normal(n) + 0.4
    exact = of_prompt.mean() + (of_prompt - of_prompt.mean()) * np.sqrt((n - 1) / n**2)
    draws = DifferenceDraws(np.broadcast_to(exact, (5, 2, n)).copy(), n)
    found = generalization_test(np.full((5, 2), of_prompt.mean()), draws)
    assert found.p_value == pytest.approx(scipy.stats.ttest_1samp(of_prompt, 0).pvalue, rel=1e-9)
    assert found.reason is None
    without = generalization_test(np.full((5, 2), of_prompt.mean()))
    assert (without.p_value, without.standard_error) == (None, None)
    assert without.reason is not None
    assert "no standard error" in without.reason


def test_draws_of_the_real_bootstrap() -> None:
    """Variances from `prompt_bootstrap` of win rates against those of the prompts' own differences."""
    n, k, s = 120, 3, 2
    shared = RNG.random(n) * 0.6
    runs, preferences = {}, {}
    for arm in ("dpo", "adadpo"):
        for place in np.ndindex(k, s):
            values = np.clip(RNG.random(n) * 0.4 + (shared if arm == "adadpo" else 0.3), 0, 1)
            preferences[arm, place] = values
            runs[f"{arm} {place}"] = [
                {"instruction": str(p), "output_1": "x", "output_2": "y" * (p % 5 + 1), "preference": 1 + v}
                for p, v in enumerate(values)
            ]
    boot = prompt_bootstrap(runs, rng=np.random.default_rng(1), replicates=2000)
    at = {name: number for number, name in enumerate(boot.runs)}
    y = np.zeros((k, s, n))
    draws = np.zeros((k, s, 2000))
    for place in np.ndindex(k, s):
        y[place] = 100 * (preferences["adadpo", place] - preferences["dpo", place])
        names = (f"adadpo {place}", f"dpo {place}")
        ours, theirs = (boot.replicates["win_rate"][at[name]] for name in names)
        draws[place] = ours - theirs
    found, _ = prompt_part(DifferenceDraws(draws, n))
    assert found is not None
    assert found.total == pytest.approx(y.mean(axis=(0, 1)).var(ddof=1) / n, rel=0.1)
    covariances = np.cov(y.reshape(k * s, n)) / n
    apart = [
        covariances[i, j] for i in range(k * s) for j in range(k * s) if i // s != j // s and i % s != j % s
    ]
    assert found.shared == pytest.approx(float(np.mean(apart)), rel=0.1)


def test_one_prompt_and_undefined_draws() -> None:
    """One prompt, or draws without values, against a generalization test without prompts and the reason."""
    table = effects() + 1
    plain = generalization_test(table)
    values = np.broadcast_to(RNG.standard_normal(100), (9, 3, 100)).copy()
    one = generalization_test(table, DifferenceDraws(values, 1))
    assert (one.prompt, one.prompts, one.p_value) == (None, 1, plain.p_value)
    assert one.prompt_reason == "needs 2 prompts, has 1"
    values[3, 1, :6] = np.nan
    gaps = generalization_test(table, DifferenceDraws(values, 805))
    assert (gaps.prompt, gaps.prompt_reason) == (None, "6 of 100 draws of prompts have no value for some run")
    values[3, 1, 5] = 0
    assert generalization_test(table, DifferenceDraws(values, 805)).prompt is not None
    # A pair that is missing leaves its setting out of the table and of the draws
    table[3, 1] = np.nan
    values[3, 1] = np.nan
    found = generalization_test(table, DifferenceDraws(values, 805))
    assert found.settings == 8
    assert found.prompt is not None
    with pytest.raises(ValueError, match=r"draws of \(9, 3\) for a table of \(9, 2\)"):
        generalization_test(table[:, :2], DifferenceDraws(values, 805))


def test_draws_without_a_value_are_left_out_of_every_run() -> None:
    """A few draws that some pair lacks, and a setting and a seed left out, against an array without them."""
    values = RNG.standard_normal((6, 4, 300)) + RNG.standard_normal(300)
    values[2, 1, 7] = values[5, 3, 200] = np.nan
    kept = np.delete(values, [7, 200], axis=2)
    found, _ = prompt_part(DifferenceDraws(values, 50))
    expected, _ = prompt_part(DifferenceDraws(kept, 50))
    assert found is not None
    assert expected is not None
    assert (found.shared, found.total) == pytest.approx((expected.shared, expected.total), rel=1e-12)
    assert (found.draws, expected.draws) == (300, 298)
    part, _ = prompt_part(DifferenceDraws(kept, 50), without_settings=[0, 4], without_seeds=[2])
    cut, _ = prompt_part(DifferenceDraws(np.delete(np.delete(kept, [0, 4], axis=0), 2, axis=1), 50))
    assert part == cut


@pytest.mark.parametrize("shape", [(1, 5), (6, 1)])
def test_no_second_seed_or_setting(shape: tuple[int, int]) -> None:
    """One row or column against no test, and the reason."""
    found = generalization_test(np.ones(shape))
    assert (found.interval, found.p_value, found.mean) == (None, None, 1.0)
    assert (
        found.reason == f"needs 2 settings and 2 seeds without a missing pair, has {shape[0]} and {shape[1]}"
    )


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_many_at_once(alternative: Any) -> None:
    """`generalization_rejects` against `generalization_test`, table by table."""
    tables = [effects(6, 3, setting=0.5, seed=0.3) + RNG.normal(0, 1) for _ in range(200)]
    squares = np.array([mean_squares(table) for table in tables]).T
    many = generalization_rejects(np.array([t.mean() for t in tables]), squares, (6, 3), 0.1, alternative)
    each = [generalization_test(table, alternative=alternative).p_value for table in tables]
    assert many.tolist() == [p is not None and p <= 0.1 for p in each]
    assert 20 < many.sum() < 180


@given(TABLES, st.floats(0.01, 100), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=100)
def test_properties(table: Any, scale: float, random: Any) -> None:
    """Swapped arms negate, order does not matter, a unit scales, one-sided p add up, p <= .05 excludes 0."""
    found = generalization_test(table)
    if found.p_value is None:
        return
    assert found.interval is not None
    low, high = found.interval.low, found.interval.high
    assert low is not None
    assert high is not None
    negated = generalization_test(-table)
    assert negated.interval is not None
    assert (negated.interval.low, negated.interval.high) == pytest.approx((-high, -low))
    assert negated.p_value == pytest.approx(found.p_value)
    rows, columns = list(range(table.shape[0])), list(range(table.shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)
    assert generalization_test(table[rows][:, columns]).p_value == pytest.approx(found.p_value, rel=1e-6)
    scaled = generalization_test(table * scale)
    assert scaled.interval is not None
    assert (scaled.interval.low, scaled.interval.high) == pytest.approx((low * scale, high * scale), rel=1e-6)
    greater, less = (generalization_test(table, alternative=each).p_value for each in ("greater", "less"))
    assert greater is not None
    assert less is not None
    assert greater + less == pytest.approx(1)
    assert 2 * min(greater, less) == pytest.approx(found.p_value)
    if abs(found.p_value - 0.05) > 1e-6:
        assert (found.p_value <= 0.05) == (low > 0 or high < 0)


def test_level_where_satterthwaite_has_none() -> None:
    """24 settings, 3 seeds, setting and seed SD of the runs' own: at most 5% here, 7% for the crossed test."""
    rng, count, shape = np.random.default_rng(3), 20_000, (24, 3)
    tables = rng.standard_normal((count, *shape))
    tables += rng.standard_normal((count, 24, 1)) + rng.standard_normal((count, 1, 3))
    means, of_setting, of_seed = tables.mean(axis=(1, 2)), tables.mean(axis=2), tables.mean(axis=1)
    rest = tables - of_setting[:, :, None] - of_seed[:, None, :] + means[:, None, None]
    squares = np.array([
        3 * of_setting.var(axis=1, ddof=1),
        24 * of_seed.var(axis=1, ddof=1),
        (rest**2).sum(axis=(1, 2)) / 46,
    ])  # fmt: skip
    rejected = generalization_rejects(means, squares, shape, 0.05)
    assert rejected.mean() < 0.05 + 3 * math.sqrt(0.05 * 0.95 / count)
    crossed = [crossed_test(table).p_value for table in tables[:3000]]
    assert np.mean([p is not None and p <= 0.05 for p in crossed]) > 0.058


def test_arguments() -> None:
    """What cannot be used against an error that names it."""
    with pytest.raises(ValueError, match="alternative must be one of"):
        generalization_test([[1.0, 2.0], [3.0, 4.0]], alternative="upper")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"confidence must be between 0 and 1, got 1\.5"):
        generalization_test([[1.0, 2.0], [3.0, 4.0]], narrow=1.5)


def test_prompts_of_a_kind_that_is_not_seen() -> None:
    """The part for unseen prompts against Clopper and Pearson's bound for 0 of P, on top of the rest by squares."""
    table, n, reach = effects() + 1, 60, 100.0
    draws = DifferenceDraws(np.broadcast_to(0.01 * RNG.standard_normal(500), (9, 3, 500)).copy(), n)
    widths = [generalization_test(table, draws, max_prompt_effect=each).interval for each in (None, reach)]
    without, with_them = ((each.high - each.estimate) ** 2 for each in widths if each and each.high)
    share = scipy.stats.binomtest(0, n).proportion_ci(0.95).high  # two-sided: its upper bound has tail .025
    assert unseen_share(0.025, n) == pytest.approx(share, rel=1e-9)
    assert with_them - without == pytest.approx((share * (reach + table.mean())) ** 2, rel=1e-6)
    found = generalization_test(table, draws, max_prompt_effect=reach)
    assert found.prompt is not None
    assert found.prompt.max_prompt_effect == reach
    assert found.p_value is not None
    assert found.p_value > 0.5  # 1 point is far below what 60 prompts can tell
    with pytest.raises(ValueError, match="max_prompt_effect must be above 0 and finite, got 0"):
        generalization_test(table, draws, max_prompt_effect=0)


@pytest.mark.parametrize(("prompts", "mean"), [(50, 1.0), (100, 3.0)])
def test_no_test_finds_more(prompts: int, mean: float) -> None:
    """The bound on power against a null that it is made of: prompts of an unseen kind that take the mean to 0."""
    share = mean / (mean + 100)
    assert (1 - share) * mean + share * -100 == pytest.approx(0)
    none_seen = scipy.stats.binom.pmf(0, prompts, share)  # then a sample is as of the effect
    most = 0.05 / none_seen
    assert out_of_reach(prompts, 100, 0.05, power=most) == pytest.approx(mean, rel=1e-9)
