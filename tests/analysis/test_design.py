import pytest

from analysis.inference.crossed import crossed_test
from analysis.planning.design import Spreads, check_design, measured_spreads

STATED = Spreads(run=1.4, setting=0.5, source="stated")


@pytest.mark.parametrize(("settings", "power"), [(6, 0.39), (9, 0.74), (12, 0.88), (16, 0.97)])
def test_power_of_the_table(settings: int, power: float) -> None:
    """Against a simulation written separately: run SD 1.4, setting SD .5, an effect of 1 point, 3 seeds."""
    found = check_design(
        settings=settings, seeds=3, alpha=0.05, alternative="two-sided", effect=1.0, spreads=STATED
    )
    assert found.power is not None
    assert found.power.power == pytest.approx(power, abs=0.03)
    # The verdict needs the generalization test too: with 3 seeds 24 settings have about .80, with 5 seeds 10.
    assert found.power.verdict is not None
    assert found.power.verdict < found.power.power - 0.05
    assert found.enough_settings in range(21, 28)
    more = check_design(
        settings=settings, seeds=5, alpha=0.05, alternative="two-sided", effect=1.0, spreads=STATED
    )
    assert more.enough_settings in range(9, 12)


def test_too_few_settings() -> None:
    """Five settings against 2 / 2^5 = .0625 as the smallest p and six that would do; no difference is in reach."""
    found = check_design(settings=5, seeds=3, alpha=0.05, alternative="two-sided", spreads=STATED)
    assert (found.smallest_p, found.testable, found.fewest_settings) == (0.0625, False, 6)
    assert found.detectable is None
    assert found.reasons["detectable"] == "5 settings cannot reach alpha whatever the difference is"
    assert found.reasons["power"] == "compare.effect is not declared"


@pytest.mark.parametrize(("family", "fewest"), [(1, 6), (2, 7), (3, 7), (4, 8)])
def test_a_family_needs_more_settings(family: int, fewest: int) -> None:
    """The smallest n with 2 / 2^n <= .05 / family, by hand: Holm's first step compares with that."""
    found = check_design(settings=6, seeds=1, alpha=0.05, alternative="two-sided", family=family)
    assert found.fewest_settings == fewest
    assert found.testable == (fewest == 6)


def test_detectable_against_the_normal_approximation() -> None:
    """Forty settings and seeds against 2.80 standard errors, over the root of the test's efficiency 3 / pi.

    With so many seeds, settings that differ far more than runs, the generalization test hardly asks for more than the
    test.
    """
    spreads = Spreads(run=0.5, setting=1.0, source="stated")
    found = check_design(settings=40, seeds=40, alpha=0.05, alternative="two-sided", spreads=spreads)
    se = ((1 + 0.5**2 / 40) / 40) ** 0.5
    assert found.detectable == pytest.approx(2.8016 * se / (3 / 3.14159) ** 0.5, rel=0.05)
    less = check_design(settings=40, seeds=40, alpha=0.05, alternative="less", spreads=spreads)
    assert less.detectable == pytest.approx(-2.4865 * se / (3 / 3.14159) ** 0.5, rel=0.05)  # 1.6449 + .8416


def test_measured() -> None:
    """SDs of a table of settings by seeds without interaction, by hand: settings differ, seeds do, runs do not."""
    table = [[0.0, 2.0], [1.0, 3.0], [2.0, 4.0]]
    found = measured_spreads(crossed_test(table), "this sweep")
    assert isinstance(found, Spreads)
    assert (found.run, found.setting, found.seed) == pytest.approx((0, 1, 2**0.5), abs=1e-7)
    assert measured_spreads(crossed_test([[1.0], [2.0]]), "one seed's runs") == (
        "one seed's runs give no SDs: they need 2 settings and 2 seeds without a missing pair"
    )


@pytest.mark.parametrize(
    "table", [[[0.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]], [[1.0, 2.0], [1.0, 2.0]]]
)
def test_measured_without_spread(table: list[list[float]]) -> None:
    """Differences that are the same at every setting: known, but of no use; not called unknown."""
    why = measured_spreads(crossed_test(table), "the finished runs of x")
    assert isinstance(why, str)
    found = check_design(settings=9, seeds=2, alpha=0.05, alternative="two-sided", spreads=why)
    assert found.spreads is found.power is found.detectable is None
    assert found.reasons["power"] == (
        "the differences of the finished runs of x are the same at every setting: SDs of 0 say nothing about further "
        "runs; state compare.run_sd and compare.setting_sd"
    )


def test_nothing_known() -> None:
    """Without SDs: what settings alone say, and what to state."""
    found = check_design(settings=9, seeds=3, alpha=0.05, alternative="two-sided")
    assert found.testable
    assert (found.power, found.detectable, found.enough_settings) == (None, None, None)
    assert "compare.run_sd" in found.reasons["power"]
    assert check_design(settings=9, seeds=3, alpha=0.05, alternative="two-sided") == found


def test_seeds_that_share_too_much() -> None:
    """With a shared seed effect far larger than the effect, more settings against no number that would do."""
    shared = Spreads(run=0.1, setting=0.1, seed=50.0, source="stated")
    found = check_design(
        settings=9, seeds=2, alpha=0.05, alternative="greater", effect=-1.0, spreads=shared.model_copy()
    )
    assert found.enough_settings is None
    assert "not even 128 settings" in found.reasons["enough_settings"]


def test_one_seed_cannot_establish_anything() -> None:
    """One seed against a declared test that has power, a verdict that has none, and the reason."""
    found = check_design(settings=9, seeds=1, alpha=0.05, alternative="two-sided", effect=3.0, spreads=STATED)
    assert found.power is not None
    assert found.power.power > 0.9
    assert (found.power.verdict, found.enough_settings, found.detectable) == (0, None, None)
    assert "with one seed no verdict is better or worse" in found.reasons["enough_settings"]
    assert found.reasons["detectable"] == found.reasons["enough_settings"]
