import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis.inference.generalization import generalization_test
from analysis.inference.signed_rank import signed_rank_test
from analysis.planning.power import (
    Power,
    fewest_settings,
    rejects,
    simulate_power,
    smallest_detectable_difference,
    smallest_p,
)
from analysis.results.model import Alternative


def power(**changes: object) -> Power:
    """Power of a design with run SD 1.4, setting SD .5, true effect 1, 3 seeds."""
    design: dict[str, object] = {"settings": 9, "seeds": 3, "effect": 1, "run_sd": 1.4, "setting_sd": 0.5}
    return simulate_power(**design | {"rng": np.random.default_rng(0)} | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("settings", "published"), [(6, 0.39), (9, 0.74), (12, 0.88), (16, 0.97)])
def test_published_power(settings: int, published: float) -> None:
    """Power against a simulation written separately, within its rounding and 4 standard errors."""
    result = power(settings=settings)
    assert abs(result.power - published) < 0.005 + 4 * result.standard_error
    assert result.standard_error < 0.006


def test_six_settings_in_closed_form() -> None:
    """Power with 6 settings, where all signs must agree, against powers of the normal distribution function."""
    sd = math.sqrt(0.5**2 + 1.4**2 / 3)
    same_sign = stats.norm.cdf(1 / sd) ** 6 + stats.norm.cdf(-1 / sd) ** 6
    result = power(settings=6, simulations=40_000)
    assert abs(result.power - same_sign) < 4 * result.standard_error
    one_sided = power(settings=5, alternative="greater", simulations=40_000)
    assert abs(one_sided.power - stats.norm.cdf(1 / sd) ** 5) < 4 * one_sided.standard_error
    assert power(settings=5, alternative="less").power < 0.001


def test_too_few_settings() -> None:
    """Five settings against a power of exactly 0, said with the smallest p and the number that would do."""
    result = power(settings=5, effect=100)
    assert (result.power, result.standard_error, result.smallest_p) == (0, 0, 0.0625)
    assert result.reason == "5 settings cannot reach alpha = 0.05: the smallest p is 0.0625; 6 settings can"
    assert power(settings=6).reason is None
    assert Power.model_validate_json(result.model_dump_json()) == result


@pytest.mark.parametrize(("n", "p"), [(3, 0.25), (5, 0.0625), (6, 0.03125), (9, 0.00390625)])
def test_smallest_p(n: int, p: float) -> None:
    """The smallest p is 2 / 2^n, by counting, and against the test of differences that all agree."""
    assert smallest_p(n) == p == signed_rank_test(range(1, n + 1)).p_value
    assert smallest_p(n, "greater") == p / 2
    assert (smallest_p(0), smallest_p(5000)) == (1, 0)
    assert (fewest_settings(), fewest_settings(0.05, "less"), fewest_settings(0.0625)) == (6, 5, 5)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
@pytest.mark.parametrize("n", [1, 5, 6, 9, 13])
def test_rejects_as_the_exact_test(n: int, alternative: Alternative) -> None:
    """Decisions on many samples at once against `signed_rank_test` on each."""
    d = np.random.default_rng(n).normal(0.5, 1, size=(60, n))
    for alpha in (0.05, 0.0625, 0.25):
        expected = [signed_rank_test(row, alternative=alternative).p_value <= alpha for row in d]
        assert rejects(d, alpha, alternative).tolist() == expected


def test_effects_of_the_components() -> None:
    """Power with more seeds, without effect and with a shared seed effect against the order that must hold."""
    assert power(seeds=10).power > power().power > power(run_sd=3).power
    null = power(effect=0)
    # P(T <= 5) = 10/512 for n = 9, so the attained level is 20/512.
    assert abs(null.power - 20 / 512) < 4 * null.standard_error
    # Not a power any more: the test over settings takes a shared seed effect for an effect of the arms.
    assert power(effect=0, seed_sd=1, run_sd=1, setting_sd=0).power > 0.4
    assert power() == power() != power(rng=np.random.default_rng(1))


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_the_verdict_needs_the_generalization_test(alternative: Alternative) -> None:
    """Power of the verdict against whole tables simulated one by one, tested by both functions."""
    rng, sign = np.random.default_rng(4), -1 if alternative == "less" else 1
    given: dict[str, Any] = {"effect": sign * 1.5, "setting_sd": 0.7, "seed_sd": 0.5, "run_sd": 1.4}
    found = power(settings=9, seeds=3, alternative=alternative, simulations=20_000, **given)
    both = 0
    for _ in range(1000):
        table = sign * 1.5 + 1.4 * rng.standard_normal((9, 3))
        table += 0.7 * rng.standard_normal((9, 1)) + 0.5 * rng.standard_normal((1, 3))
        headline = signed_rank_test(table.mean(axis=1), alternative=alternative).p_value
        generalization = generalization_test(table, alternative=alternative).p_value
        both += headline <= 0.05 and generalization is not None and generalization <= 0.05
    assert found.verdict == pytest.approx(both / 1000, abs=0.06)
    assert found.verdict < found.power
    assert power(seeds=1).verdict == 0


def test_smallest_detectable_difference() -> None:
    """2.80 SE (normal quantiles .975 and .8): paired errors of 1.3 to 1.5 points give about 3.8 to 4.1."""
    assert smallest_detectable_difference(1.0) == pytest.approx(2.8016, abs=1e-4)
    assert smallest_detectable_difference(1.36) == pytest.approx(3.8, abs=0.05)
    assert smallest_detectable_difference(1.46) == pytest.approx(4.1, abs=0.05)
    # 80% of normal estimates with that true value are beyond 1.96 SE.
    assert stats.norm.sf(stats.norm.isf(0.025) - smallest_detectable_difference(1.0)) == pytest.approx(0.8)


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": 0},
        {"seeds": 0},
        {"simulations": 0},
        {"run_sd": -1},
        {"run_sd": 0, "setting_sd": 0},
        {"alpha": 1},
    ],
)
def test_unusable(changes: dict[str, object]) -> None:
    """Options out of range against ValueError."""
    with pytest.raises(ValueError, match=r"at least|between"):
        power(**changes)
    with pytest.raises(ValueError, match="need an error"):
        smallest_detectable_difference(-1)
    with pytest.raises(ValueError, match="alpha"):
        fewest_settings(0)
