"""Average ranks against Demsar's published example, scipy's Friedman test and properties."""

from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analysis.statistics.average_ranks import average_ranks
from tests.analysis.analysis_examples import DECLARED, LC, analyse, run

# Demsar (2006), JMLR 7:1, table 6: AUC of C4.5, C4.5+m, C4.5+cf and C4.5+m+cf on 14 data sets.
DEMSAR = [
    [0.763, 0.768, 0.771, 0.798],
    [0.599, 0.591, 0.590, 0.569],
    [0.954, 0.971, 0.968, 0.967],
    [0.628, 0.661, 0.654, 0.657],
    [0.882, 0.888, 0.886, 0.898],
    [0.936, 0.931, 0.916, 0.931],
    [0.661, 0.668, 0.609, 0.685],
    [0.583, 0.583, 0.563, 0.625],
    [0.775, 0.838, 0.866, 0.875],
    [1.000, 1.000, 1.000, 1.000],
    [0.940, 0.962, 0.965, 0.962],
    [0.619, 0.666, 0.614, 0.669],
    [0.972, 0.981, 0.978, 0.975],
    [0.957, 0.978, 0.946, 0.970],
]
ARMS = ["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"]


def test_the_published_example() -> None:
    """Average ranks, critical difference (1.25 at .05, 1.12 at .10), and the statistic of the ranks without ties."""
    found = average_ranks(DEMSAR, ARMS, higher_is_better=True)
    assert list(found.ranks) == ARMS
    assert list(found.ranks.values()) == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=0.0005)
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    tenth = average_ranks(DEMSAR, ARMS, higher_is_better=True, alpha=0.1)
    assert tenth.critical_difference == pytest.approx(1.12, abs=0.005)
    # The paper's chi-square, 9.28, is not corrected for ties; scipy's is, and so is ours.
    n, k = 14, 4
    plain = 12 * n / (k * (k + 1)) * (sum(r**2 for r in found.ranks.values()) - k * (k + 1) ** 2 / 4)
    assert plain == pytest.approx(9.28, abs=0.005)
    assert (n - 1) * plain / (n * (k - 1) - plain) == pytest.approx(3.69, abs=0.005)
    scipys = scipy.stats.friedmanchisquare(*np.array(DEMSAR).T)
    assert (found.statistic, found.p_value) == pytest.approx((scipys.statistic, scipys.pvalue))


@pytest.mark.parametrize(("arms", "q"), [(3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (10, 3.164)])
def test_critical_values_of_the_paper(arms: int, q: float) -> None:
    """q of table 5a of the paper, from the critical difference."""
    values = np.random.default_rng(0).standard_normal((10, arms))
    found = average_ranks(values, [str(k) for k in range(arms)], higher_is_better=True)
    assert found.critical_difference == pytest.approx(q * np.sqrt(arms * (arms + 1) / 60), abs=0.001)


@given(
    hnp.arrays(np.int64, st.tuples(st.integers(2, 8), st.integers(3, 5)), elements=st.integers(0, 4)),
    st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_properties(values: Any, higher: bool) -> None:
    """Ranks and test against scipy with any ties; monotone changes and the order of settings matter not."""
    arms = [str(k) for k in range(values.shape[1])]
    found = average_ranks(values, arms, higher_is_better=higher)
    if found.reason is not None:
        assert found.reason == "all arms have the same value at every setting"
        assert (values == values[:, :1]).all()
        return
    ranks = scipy.stats.rankdata(-values if higher else values, axis=1).mean(axis=0)
    assert list(found.ranks.values()) == pytest.approx(ranks.tolist())
    scipys = scipy.stats.friedmanchisquare(*values.T)
    assert found.statistic == pytest.approx(scipys.statistic, abs=1e-9)
    assert found.p_value == pytest.approx(scipys.pvalue)
    assert average_ranks(np.exp(values[::-1]), arms, higher_is_better=higher) == found
    mirrored = average_ranks(-values, arms, higher_is_better=not higher)
    assert mirrored == found


def test_f_against_scipy() -> None:
    """Iman and Davenport's p against scipy's F distribution of the statistic by hand."""
    values = np.random.default_rng(1).normal([0, 0.5, 1, 0], 1, (9, 4))
    found = average_ranks(values, ARMS, higher_is_better=True)
    chi = scipy.stats.friedmanchisquare(*values.T).statistic
    f = 8 * chi / (9 * 3 - chi)
    assert (found.f_statistic, found.f_p_value) == pytest.approx((f, scipy.stats.f.sf(f, 3, 24)))
    always = average_ranks([[3.0, 2.0, 1.0]] * 4, ["a", "b", "c"], higher_is_better=True)
    assert (always.f_statistic, always.f_p_value) == (None, 0.0)


def test_in_an_analysis() -> None:
    """Three arms of a sweep: ranks of seed means; two arms have no overview; a gap leaves its setting out."""
    runs = [
        run(arm, f"beta={k}", seed, {LC.name: 20.0 + k + gain + seed})
        for arm, gain in (("dpo", 0), ("adadpo", 2), ("simpo", 1))
        for k in range(4)
        for seed in (0, 1)
    ]
    plan: dict[str, Any] = {
        "declared": DECLARED,
        "metrics": [LC],
        "settings": [f"beta={k}" for k in range(4)],
        "seeds": [0, 1],
    }
    found = analyse(runs=runs, arms=["dpo", "adadpo", "simpo"], **plan).average_ranks
    assert found is not None
    assert found.ranks == {"dpo": 3.0, "adadpo": 1.0, "simpo": 2.0}
    without = [each for each in runs if (each.arm, each.setting) != ("simpo", "beta=1")]
    gap = analyse(runs=without, arms=["dpo", "adadpo", "simpo"], **plan).average_ranks
    assert gap is not None
    assert (gap.settings, gap.left_out) == (3, 1)
    two = [each for each in runs if each.arm != "simpo"]
    assert analyse(runs=two, arms=["dpo", "adadpo"], **plan).average_ranks is None


def test_arguments() -> None:
    """Two arms, a wrong table, one setting."""
    with pytest.raises(ValueError, match="at least 3 arms"):
        average_ranks([[1.0, 2.0]], ["a", "b"], higher_is_better=True)
    found = average_ranks([[1.0, 2.0, 3.0]], ["a", "b", "c"], higher_is_better=True)
    assert found.reason == "needs 2 settings at which every arm has a value, has 1"
