"""Sensitivity and variance components, against scipy, closed forms and the numbers that they repeat."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis.document import Results
from analysis.results.model import PromptPart
from reports.figures.variance import variance_of
from reports.page import render_html
from reports.render.cells import Missing
from reports.render.formats import p_value
from reports.sections.sensitivity import sensitivity_of
from tests.analysis.analysis_examples import compare
from tests.reports.sample_results import changed, make_results


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
    return changed(made, {"comparisons": comparisons})


def row(results: Results, start: str) -> list[Any]:
    found = sensitivity_of(results)
    assert found is not None
    [line] = [line for line in found.tests.rows if str(line[0]).startswith(start)]
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
    assert inference.generalization is not None
    generalization = row(results, "Settings, seeds as samples (the verdict needs")
    assert generalization[2:] == [
        p_value(inference.generalization.p_value or 0, results.declared.alpha),
        f"{inference.generalization.settings} × {inference.generalization.seeds}",
    ]


def test_what_the_prompts_add(results: Results) -> None:
    """Prompts that are no sample against the reason; with draws of them against the standard error and their number."""
    assert "Prompts as a sample" in render_html(results)
    first, *rest = results.comparisons
    assert first.inference is not None
    assert first.inference.generalization is not None
    part = PromptPart(prompts=805, shared=0.64, total=0.81, draws=2000)
    generalization = first.inference.generalization.model_copy(update={"prompt": part, "prompts": 805})
    with_prompts = first.model_copy(
        update={"inference": first.inference.model_copy(update={"generalization": generalization})}
    )
    made = changed(results, {"comparisons": [with_prompts, *rest]})
    assert row(made, "Settings, seeds and prompts as samples")[3].endswith(" × 805")
    found = variance_of(made)
    assert found is not None
    assert not isinstance(found, Missing)
    [fact] = [fact for fact in found.facts if fact.term == "Standard error from 805 prompts"]
    assert (fact.value, "0.900 including" in fact.note) == ("0.800", True)


def test_the_page_says_what_the_pooled_test_is_worth(results: Results) -> None:
    """The warning and the rules for missing runs stand in the page; intention to treat comes first."""
    page = render_html(results)
    assert "All setting × seed pairs, pooled (not valid)" in page
    found = sensitivity_of(results)
    assert found is not None
    assert found.missing is not None
    assert [line[0] for line in found.missing.rows][:2] == ["intention to treat", "complete pairs"]
    assert found.warning


def test_undefined_is_a_dash_with_its_reason(results: Results) -> None:
    """One seed: no variance components and no generalization test, and the page says so instead of 0."""
    one = [run for run in results.runs if run.seed == results.seeds[0]]
    comparisons = compare(
        runs=one,
        declared=results.declared,
        metrics=results.metrics,
        settings=results.settings,
        seeds=results.seeds[:1],
        arms=list(results.arms),
    )
    alone = changed(results, {"runs": one, "comparisons": comparisons, "seeds": results.seeds[:1]})
    assert isinstance(row(alone, "Crossed")[2], Missing)
    found = variance_of(alone)
    assert isinstance(found, Missing)
    assert "2" in found.reason
    assert found.reason in render_html(alone)


def test_shares_are_those_of_the_two_way_anova(results: Results) -> None:
    """Against mean squares computed here from the definition (settings x seeds of complete pairs)."""
    rows = [[pair.value for pair in each.values] for each in results.comparisons[0].differences]
    d = np.array([row for row in rows if None not in row], dtype=float)
    k, s = d.shape
    settings = s * ((d.mean(1) - d.mean()) ** 2).sum() / (k - 1)
    seeds = k * ((d.mean(0) - d.mean()) ** 2).sum() / (s - 1)
    rest = ((d - d.mean(1, keepdims=True) - d.mean(0) + d.mean()) ** 2).sum() / ((k - 1) * (s - 1))
    parts = np.array([(settings - rest) / s, (seeds - rest) / k, rest])
    found = variance_of(results)
    assert found is not None
    assert not isinstance(found, Missing)
    shown = [str(line[2]).replace("\u2212", "-") for line in found.table.rows]
    assert shown == [f"{part:+.4f}" for part in parts]
    one = np.maximum(parts, 0)
    mean = one / np.array([k, s, k * s])
    assert [line[4] for line in found.table.rows] == [f"{100 * part / one.sum():.0f}%" for part in one]
    assert [line[5] for line in found.table.rows] == [f"{100 * part / mean.sum():.0f}%" for part in mean]


@pytest.mark.parametrize("component", ["setting", "seed"])
def test_a_component_below_zero_is_explained(results: Results, component: str) -> None:
    """The estimate is shown with its sign, has no SD, counts as nothing, and the page says what that means."""
    primary = results.comparisons[0]
    assert primary.inference is not None
    assert primary.inference.crossed.components is not None
    parts = primary.inference.crossed.components.model_copy(update={component: -0.5})
    crossed = primary.inference.crossed.model_copy(update={"components": parts})
    inference = primary.inference.model_copy(update={"crossed": crossed})
    comparisons = [primary.model_copy(update={"inference": inference}), *results.comparisons[1:]]
    found = variance_of(changed(results, {"comparisons": comparisons}))
    assert found is not None
    assert not isinstance(found, Missing)
    line = found.table.rows[["setting", "seed"].index(component)]
    assert line[2] == "\u22120.5000"
    assert isinstance(line[3], Missing)
    assert line[4:] == ["0%", "0%"]
    assert any(f"({component}s)" in note for note in found.notes)


def test_results_without_it_have_no_section(results: Results) -> None:
    """Files older than the inference around the test still render."""
    bare = [each.model_copy(update={"inference": None}) for each in results.comparisons]
    old = changed(results, {"comparisons": bare})
    assert sensitivity_of(old) is None
    assert variance_of(old) is None
    assert "Sensitivity" not in render_html(old)
