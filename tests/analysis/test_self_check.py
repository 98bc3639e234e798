import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from analysis.inference.self_check import (
    SelfCheck,
    check_false_positives,
    crossed_p_value,
    pooled_p_value,
    setting_p_value,
)
from analysis.inference.signed_rank import signed_rank_test

NAN = float("nan")


def clustered(settings: int, seeds: int = 3) -> NDArray[np.float64]:
    """Differences that settings share: SD 2 between them, 1 between runs."""
    rng = np.random.default_rng(settings)
    return rng.normal(size=(settings, seeds)) + 2 * rng.normal(size=(settings, 1))


@given(st.lists(st.integers(-6, 6), min_size=3, max_size=8).filter(any), st.sampled_from([0.05, 0.2]))
@settings(deadline=None, max_examples=25)
def test_the_exact_test_keeps_its_level(d: list[int], alpha: float) -> None:
    """The headline test's rate over all sign patterns, ties and zeros included, against the nominal level."""
    result = check_false_positives(
        [[x] for x in d], setting_p_value, unit="setting", alpha=alpha, rng=np.random.default_rng(0)
    )
    assert result.exhaustive
    assert result.rate <= alpha
    swapped = check_false_positives(
        [[-x] for x in d], setting_p_value, unit="setting", alpha=alpha, rng=np.random.default_rng(0)
    )
    assert swapped == result


def test_exact_rate() -> None:
    """The rate of 9 untied settings over all 512 patterns against the attained level of the test, 20/512."""
    result = check_false_positives(
        clustered(9), setting_p_value, unit="setting", rng=np.random.default_rng(0)
    )
    # P(T <= 5) = 10/512, P(T <= 6) = 14/512 > .025.
    assert (result.rejected, result.flips, result.rate, result.interval) == (20, 512, 20 / 512, None)
    assert (result.units, result.alpha) == (9, 0.05)
    assert SelfCheck.model_validate_json(result.model_dump_json()) == result


def test_dependence_shows() -> None:
    """Pooled pairs of clustered settings against a rate far above the level; flipped pair by pair it stays hidden."""
    table = clustered(9)
    rng = np.random.default_rng(0)
    pooled = check_false_positives(table, pooled_p_value, unit="setting", rng=rng)
    assert pooled.rate > 0.15
    hidden = check_false_positives(table, pooled_p_value, unit="pair", rng=rng, flips=600)
    assert hidden.interval is not None
    assert hidden.interval.low is not None
    assert hidden.interval.low < 0.05
    assert (hidden.units, hidden.flips, hidden.exhaustive) == (27, 600, False)
    crossed = check_false_positives(table, crossed_p_value, unit="setting", rng=rng)
    assert crossed.rate < 0.08


def test_random_patterns() -> None:
    """The rate over random patterns of 14 settings against that over all, within its interval; seeds repeat."""
    table = clustered(14, 1)
    exact = check_false_positives(
        table, lambda d: float(abs(d.sum()) < 9), unit="setting", rng=np.random.default_rng(0), flips=2**14
    )
    drawn, again, other = (
        check_false_positives(
            table,
            lambda d: float(abs(d.sum()) < 9),
            unit="setting",
            rng=np.random.default_rng(seed),
            flips=900,
        )
        for seed in (1, 1, 2)
    )
    assert drawn.interval is not None
    assert drawn.interval.low is not None
    assert drawn.interval.high is not None
    assert drawn.interval.low < exact.rate < drawn.interval.high
    assert drawn == again != other


def test_units_with_gaps() -> None:
    """Settings, seeds and pairs without a value against not being flipped; the flips each test sees by hand."""
    table = [[1.0, 2.0, NAN], [NAN, NAN, NAN], [3.0, NAN, NAN]]
    for unit, units in (("setting", 2), ("seed", 2), ("pair", 3)):
        seen: list[list[float]] = []

        def record(d: NDArray[np.float64], seen: list[list[float]] = seen) -> None:
            seen.append(d[~np.isnan(d)].tolist())

        result = check_false_positives(table, record, unit=unit, rng=np.random.default_rng(0))  # type: ignore[arg-type]
        assert (result.units, result.flips, result.rate) == (units, 2**units, 0)  # no p-value does not reject
        assert seen[0] == [1, 2, 3]
        assert seen[1] == {"setting": [1, 2, -3], "seed": [1, -2, 3], "pair": [1, 2, -3]}[unit]
        assert seen[-1] == [-1, -2, -3]
    assert setting_p_value(np.array(table)) == signed_rank_test([1.5, 3]).p_value


def test_unusable() -> None:
    """Options out of range and tables without a pair against ValueError."""
    rng = np.random.default_rng(0)
    for options in ({"alpha": 0.0}, {"flips": 0}, {"unit": "run"}):
        with pytest.raises(ValueError, match=r"need alpha|unit must"):
            check_false_positives([[1.0]], setting_p_value, rng=rng, **{"unit": "setting"} | options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nothing to permute"):
        check_false_positives([[NAN]], setting_p_value, unit="setting", rng=rng)
