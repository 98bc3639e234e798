"""Power of a new sweep with measured spread, against a t test's closed form where the two agree."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from analysis.planning.power import TIMES_ROPE, measured_power
from analysis.results.model import Comparison, Declared, SeedValue, SettingDifference, VarianceComponents
from tests.analysis.analysis_examples import LC, compare, sweep

DECLARED = Declared(baseline="dpo", candidate="adadpo", primary=LC.name, rope=1.0)


@pytest.fixture(scope="module")
def primary() -> Comparison:
    return compare(**sweep([[1.0, 2.0], [0.5, 1.5], [2.0, 1.0]]), declared=DECLARED, metrics=[LC])[0]


def with_components(found: Comparison, settings: int, seeds: int, **parts: float) -> Comparison:
    assert found.inference is not None
    components = VarianceComponents(**parts)
    crossed = found.inference.crossed.model_copy(update={"components": components})
    planned = SettingDifference(
        setting="",
        values=[SeedValue(seed=seed, value=None) for seed in range(seeds)],
        n=0,
        mean=None,
        sd=None,
    )
    differences = [planned] * settings
    return found.model_copy(
        update={
            "differences": differences,
            "inference": found.inference.model_copy(update={"crossed": crossed}),
        }
    )


def test_power_is_that_of_the_t_test_less_a_little(primary: Comparison) -> None:
    """20 settings, normal differences: the signed-rank test has 3/pi of the t test's efficiency (Lehmann 1975).

    The t test's power is the noncentral t's, with the noncentrality at 3/pi of the settings.
    """
    found = measured_power(
        with_components(primary, 20, 3, setting=0.25, seed=-0.1, run=3.0), declared=DECLARED
    )
    sd = math.sqrt(0.25 + 3.0 / 3)
    critical = stats.t.ppf(0.975, 19)
    assert [each.effect for each in found] == [times * 1.0 for times in TIMES_ROPE]
    for each in found[:3]:  # beyond, the noncentral t of the peer overflows
        shift = each.effect / sd * math.sqrt(20 * 3 / math.pi)
        expected = stats.nct.sf(critical, 19, shift) + stats.nct.cdf(-critical, 19, shift)
        assert each.power == pytest.approx(expected, abs=0.03)
        assert each.seed_sd == 0


def test_nothing_where_nothing_can_be_said(primary: Comparison) -> None:
    """No components, no region, no spread, more settings than the exact test is simulated for."""
    some = {"setting": 0.25, "seed": 0.0, "run": 1.0}
    assert measured_power(with_components(primary, 60, 3, **some), declared=DECLARED)
    assert measured_power(with_components(primary, 61, 3, **some), declared=DECLARED) == []
    none = {"setting": 0.0, "seed": 1.0, "run": 0.0}
    assert measured_power(with_components(primary, 9, 3, **none), declared=DECLARED) == []
    without = DECLARED.model_copy(update={"rope": 0.0})
    assert measured_power(with_components(primary, 9, 3, **some), declared=without) == []
    assert measured_power(primary.model_copy(update={"inference": None}), declared=DECLARED) == []


def test_the_direction_is_the_declared_one(primary: Comparison) -> None:
    """One-sided downwards: the true differences are below 0, and power is that of the mirror image."""
    found = with_components(primary, 9, 3, setting=0.25, seed=0.1, run=1.0)
    below = measured_power(found, declared=DECLARED.model_copy(update={"alternative": "less"}))
    above = measured_power(found, declared=DECLARED.model_copy(update={"alternative": "greater"}))
    assert [each.effect for each in below] == [-each.effect for each in above]
    for one, other in zip(below, above, strict=True):
        assert one.power == pytest.approx(other.power, abs=0.02)
    assert measured_power(found, declared=DECLARED) == measured_power(found, declared=DECLARED)
