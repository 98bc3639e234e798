"""Leave one setting out against the same comparison made again without each setting."""

from __future__ import annotations

from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.statistics.leave_one_out import make
from analysis.study import make_study
from analysis.summary import analyse_runs
from reports.page import render_html
from tests.analysis.analysis_examples import DECLARED, LC, compare, sweep


@given(st.lists(st.lists(st.integers(-9, 9), min_size=2, max_size=2), min_size=3, max_size=7))
@settings(deadline=None, max_examples=40)
def test_against_brute_force(differences: list[list[float | str]]) -> None:
    """Mean, range and the setting that moves most, from whole comparisons of sweeps that lack one setting."""
    found = make(make_study(**sweep(differences), declared=DECLARED, metrics=[LC])).value
    assert found is not None

    def mean(of: list[list[float | str]]) -> float:
        (comparison,) = compare(**sweep(of), declared=DECLARED, metrics=[LC], around=False)
        return fmean(k.mean for k in comparison.differences if k.mean is not None)

    whole = mean(differences)
    without = [mean(differences[:k] + differences[k + 1 :]) for k in range(len(differences))]
    assert found.mean == pytest.approx(whole)
    assert (found.low, found.high) == pytest.approx((min(without), max(without)))
    moved = [abs(each - whole) for each in without]
    assert moved[int(found.most.removeprefix("beta="))] == pytest.approx(max(moved))
    assert abs(found.without_most - whole) == pytest.approx(max(moved))


def test_the_sentence() -> None:
    """Means 1, 2, 9: 4 in all; without the last 1.5, without the first 5.5."""
    block = make(make_study(**sweep([[1, 1], [2, 2], [9, 9]]), declared=DECLARED, metrics=[LC]))
    assert block.sentence == (
        "With each of the 3 settings left out in turn, the mean difference in LC win rate runs from "
        "+1.5 to +5.5 points (all settings: +4.0). Leaving out beta=2 moves it most, to +1.5."
    )


def test_too_few_settings() -> None:
    """Three settings of which one has no complete pair against the reason."""
    block = make(make_study(**sweep([[1, 1], [2, 2], ["failed", "failed"]]), declared=DECLARED, metrics=[LC]))
    assert (block.value, block.sentence) == (None, "")
    assert block.reason == "needs 3 settings with a complete pair, has 2"


def test_it_is_in_the_results_and_on_the_page() -> None:
    """One module and one template: the block is in the results, its section and its reason on the page."""
    for differences, said in (
        ([[1, 1], [2, 2], [9, 9]], "Leaving out beta=2 moves it most"),
        ([[1, 1], [2, 2]], "Undefined: needs 3 settings with a complete pair, has 2."),
    ):
        runs = sweep(differences)["runs"]  # type: ignore[arg-type]
        results = analyse_runs(runs, declared=DECLARED, metrics=[LC])
        assert "leave_one_out" in [block.kind for block in results.blocks]
        page = render_html(results)
        assert "Leave one setting out</h2>" in page
        assert said in page
