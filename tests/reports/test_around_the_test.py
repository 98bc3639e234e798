"""The section around the headline test, against scipy and the numbers that it repeats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sample_results import make_results
from scipy import stats

from analysis import compare
from analysis.results import Results
from reports import render_html
from reports.around_the_test import around_the_test
from reports.shown import Missing


@pytest.fixture(scope="module")
def results() -> Results:
    made = make_results()
    comparisons = compare(
        runs=made.runs,
        declared=made.declared,
        metrics=made.metrics,
        settings=made.settings,
        seeds=made.seeds,
        arms=list(made.arms),
    )
    return made.model_copy(update={"comparisons": comparisons})


def row(results: Results, start: str) -> list[Any]:
    found = around_the_test(results)
    assert found is not None
    [line] = [line for line in found.sensitivity.rows if str(line[0]).startswith(start)]
    return line


def test_sensitivity_rows_are_those_of_scipy(results: Results) -> None:
    """Against scipy's sign test and signed-rank test on the same seed-averaged differences."""
    d = np.array([each.mean for each in results.comparisons[0].differences if each.mean is not None])
    assert len(d) >= 6
    sign = stats.binomtest(int((d > 0).sum()), int((d != 0).sum())).pvalue
    assert row(results, "Sign test")[2] == f"p = {sign:.3f}".replace("0.", ".")
    exact = stats.wilcoxon(d, method="exact").pvalue
    assert row(results, "Signed-rank over settings, zeros left out")[2] == f"p = {exact:.3f}".replace(
        "0.", "."
    )
    inference = results.comparisons[0].inference
    assert inference is not None
    assert row(results, "Crossed")[3] == f"{inference.crossed.settings} × {inference.crossed.seeds}"


def test_the_page_says_what_the_pooled_test_is_worth(results: Results) -> None:
    """The warning and the rules for missing runs stand in the page; intention to treat comes first."""
    page = render_html(results)
    assert "Around the test" in page
    assert "All setting × seed pairs, pooled (not valid)" in page
    found = around_the_test(results)
    assert found is not None
    assert found.missing is not None
    assert [line[0] for line in found.missing.rows][:2] == ["intention to treat", "complete pairs"]
    assert found.warning


def test_undefined_is_a_dash_with_its_reason(results: Results) -> None:
    """One seed: no variance components and no guard, and the page says so instead of 0."""
    one = [run for run in results.runs if run.seed == results.seeds[0]]
    comparisons = compare(
        runs=one,
        declared=results.declared,
        metrics=results.metrics,
        settings=results.settings,
        seeds=results.seeds[:1],
        arms=list(results.arms),
    )
    alone = results.model_copy(update={"runs": one, "comparisons": comparisons, "seeds": results.seeds[:1]})
    assert isinstance(row(alone, "Crossed")[2], Missing)
    found = around_the_test(alone)
    assert found is not None
    variance = next(fact for fact in found.facts if fact.term == "Variance between seeds")
    assert isinstance(variance.value, Missing)
    assert variance.remark
    assert "Around the test" in render_html(alone)


def test_results_without_it_have_no_section(results: Results) -> None:
    """Files older than the inference around the test still render."""
    bare = [each.model_copy(update={"inference": None}) for each in results.comparisons]
    old = results.model_copy(update={"comparisons": bare})
    assert around_the_test(old) is None
    assert "Around the test" not in render_html(old)
