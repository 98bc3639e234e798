"""The heat map, the scatter plots, other arms, power and next step: every mark against the numbers behind it."""

from __future__ import annotations

import math
import re
from collections import Counter

import pytest

from analysis.document import Results
from analysis.results.model import SettingDifference
from reports.figures.heatmap import heat_of, shade
from reports.figures.scatter import MOST_MARKS, kl_of, lengths_of, scatter, shape
from reports.page import render_html
from reports.render.cells import Missing, Table
from reports.sections.comparisons import other_arms_of, ranks_of
from reports.sections.power_and_next_step import next_of
from tests.reports.page_text import Page
from tests.reports.sample_results import changed, make_results


def cells(picture: str) -> list[tuple[str, str]]:
    """Class and number of each cell, row by row."""
    return re.findall(r'<rect class="cell ([\w-]+)"[^>]*/><text[^>]*>([^<]+)</text>', picture)


def test_every_cell_has_its_number_and_shade(whole: Results) -> None:
    """Rows are beta (2 values), columns learning rate (3): numbers and sides against the settings' differences."""
    found = heat_of(whole)
    assert found is not None
    [drawn] = found.maps
    assert drawn.title == ""
    shown = {each.setting: each for each in whole.comparisons[0].differences}
    order = [f"beta={b} learning_rate={r}" for b in (0.05, 0.1) for r in (5e-06, 1e-05, 2e-05)]
    numbers = [f"{shown[setting].mean:+.2f}" for setting in order]
    largest = max(abs(each.mean or 0) for each in shown.values())
    assert [text for _, text in cells(drawn.picture)] == numbers
    assert [kind for kind, _ in cells(drawn.picture)] == [shade(shown[s].mean or 0, largest) for s in order]
    assert "1 of 2 pairs" in drawn.picture
    assert found.key.count("<rect") == 9


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "level"),
        (0.02, "level"),
        (0.1, "up-1"),
        (0.3, "up-2"),
        (1.0, "up-4"),
        (-1.0, "down-4"),
        (-0.6, "down-3"),
    ],
)
def test_shades_are_even_on_both_sides(value: float, expected: str) -> None:
    """Four steps to the largest difference, mirrored; next to nothing has neither side."""
    assert shade(value, 1.0) == expected
    assert shade(0.0, 0.0) == "level"


def test_three_axes_make_small_multiples(whole: Results) -> None:
    """A third axis: a map for each of its values, all on one scale; a setting that is not there has no cell."""
    third = [
        run.model_copy(
            update={
                "setting": f"{run.setting} loss={loss}",
                "hyperparameters": {**run.hyperparameters, "loss": loss},
            }
        )
        for loss in ("dpo", "ipo")
        for run in whole.runs
    ]
    differences = [
        each.model_copy(update={"setting": f"{each.setting} loss={loss}", "mean": (each.mean or 0) * factor})
        for loss, factor in (("dpo", 1.0), ("ipo", -0.1))
        for each in whole.comparisons[0].differences
    ][:-1]
    comparisons = [whole.comparisons[0].model_copy(update={"differences": differences})]
    axes = {**whole.axes, "loss": ["dpo", "ipo"]}
    found = heat_of(changed(whole, {"runs": third, "axes": axes, "comparisons": comparisons}))
    assert found is not None
    assert [each.title for each in found.maps] == ["loss dpo", "loss ipo"]
    assert [len(cells(each.picture)) for each in found.maps] == [6, 5]
    assert {kind for kind, _ in cells(found.maps[1].picture)} <= {"down-1", "level"}


def test_no_grid_no_map(whole: Results) -> None:
    """One value per axis, or no difference at all: there is no section; one axis alone is a single row."""
    assert heat_of(whole.model_copy(update={"axes": {"beta": [0.1]}})) is None
    assert heat_of(make_results(missing=True)) is None
    one = make_results(3, (0, 1))
    found = heat_of(one.model_copy(update={"axes": {"beta": [0.01, 0.05, 0.1]}}))
    assert found is not None
    assert len(cells(found.maps[0].picture)) == 3


def test_cells_without_a_pair_say_so(whole: Results) -> None:
    """A setting of which no pair is complete is drawn empty, not as a difference of 0."""
    first = whole.comparisons[0]
    gone = SettingDifference(
        setting=first.differences[0].setting, values=first.differences[0].values, n=0, mean=None, sd=None
    )
    comparisons = [first.model_copy(update={"differences": [gone, *first.differences[1:]]})]
    found = heat_of(changed(whole, {"comparisons": comparisons}))
    assert found is not None
    assert cells(found.maps[0].picture)[0] == ("empty", "no pair")


def test_a_mark_for_every_run_that_counts(whole: Results) -> None:
    """Marks per arm against the runs that are done and have both values; each arm has a shape of its own."""
    found = lengths_of(whole)
    assert isinstance(found, list)
    assert [each.title for each in found] == [
        "LC win rate against win rate",
        "LC win rate against average length",
    ]
    done = Counter(run.arm for run in whole.runs if run.state == "done")
    for each in found:
        marks = Counter(re.findall(r'class="mark arm-(\d)[ \w]*"', each.picture))
        assert marks == {
            str(number): done[arm] + 1 for number, arm in enumerate(whole.arms)
        }  # one in the legend
    assert len({re.sub(r"arm-\d", "", shape(style, 50, 50, 4)) for style in range(6)}) == 6
    kl = kl_of(whole)
    assert isinstance(kl, list)
    assert [each.title for each in kl] == [
        "LC win rate against KL to reference",
        "Win rate against KL to reference",
    ]
    assert kl_of(make_results()) is None  # nothing of that name was measured


def test_marks_lie_where_the_axes_say(whole: Results) -> None:
    """The mean position of an arm's marks against its mean value, by the axis' ticks (linear)."""
    found = scatter(whole, "win_rate", "length_controlled_win_rate", "x")
    assert found is not None
    ticks = re.findall(
        r'<text x="([\d.]+)" y="\d+" class="tick" text-anchor="middle">([\d.]+)<', found.picture
    )
    (x0, v0), (x1, v1) = [(float(x), float(v)) for x, v in (ticks[0], ticks[-1])]
    places = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"[^>]*class="mark arm-0', found.picture)][
        :-1
    ]
    runs = [run for run in whole.runs if run.arm == "dpo" and run.state == "done"]
    values = [run.metrics["win_rate"] or math.nan for run in runs]
    expected = x0 + (sum(values) / len(values) - v0) / (v1 - v0) * (x1 - x0)
    assert sum(places) / len(places) == pytest.approx(expected, abs=0.1)


def test_many_runs_are_drawn_as_means() -> None:
    """More runs than marks: one for each arm at each setting, and the figure says so."""
    many = make_results(24, tuple(range(20)), 1)
    assert len(many.runs) > MOST_MARKS
    found = scatter(many, "win_rate", "length_controlled_win_rate", "x")
    assert found is not None
    assert len(re.findall('class="mark', found.picture)) == 2 * 24 + 2
    assert found.notes == ["959 runs: each mark is the mean of one arm's runs at one setting."]


def test_other_arms_are_beside_the_first(whole: Results) -> None:
    """Each arm's row against its own comparison; without other arms there is no section."""
    table = other_arms_of(whole)
    assert table is not None
    text = Page(render_html(whole)).text
    assert "Other arms" in text
    estimate = whole.other_arms[0].comparison.estimate
    assert estimate is not None
    assert table.rows[1][1] == f"{estimate.estimate:+.2f}".replace("-", "\u2212")
    assert other_arms_of(make_results()) is None


def test_arms_by_average_rank(whole: Results) -> None:
    """Ranks, best first, and the note against the results; two arms have no section, a reason stands in its place."""
    ranks = whole.average_ranks
    assert ranks is not None
    table = ranks_of(whole)
    assert isinstance(table, Table)
    assert [float(str(line[1])) for line in table.rows] == pytest.approx(
        sorted(ranks.ranks.values()), abs=0.005
    )
    assert table.rows[0][2] == "best"
    assert f"(Nemenyi): {ranks.critical_difference:.2f}" in Page(render_html(whole)).text
    assert ranks_of(make_results()) is None
    none = ranks.model_copy(update={"ranks": {}, "p_value": None, "reason": "too few"})
    said = ranks_of(changed(whole, {"average_ranks": none}))
    assert isinstance(said, Missing)
    assert "too few" in said.reason


def test_the_next_step_is_named_with_its_cost(whole: Results) -> None:
    """The leading sentence against the first step; what is not known is a dash with its reason."""
    found = next_of(whole)
    assert found is not None
    assert not isinstance(found, Missing)
    assert whole.next_steps is not None
    first = whole.next_steps.steps[0]
    assert first.cost is not None
    assert first.standard_error is not None
    assert f"{first.cost:.2f} sequential run-hours" in found.lead
    assert f"{first.standard_error:.3f} points" in found.lead
    assert found.steps is not None
    assert "the variance between prompts is not known: run the paired bootstrap" in found.steps.reasons
    assert found.power is not None
    assert [row[1] for row in found.power.rows] == [f"{100 * each.power:.0f}%" for each in whole.power]
    assert [row[2] for row in found.power.rows] == [
        f"{100 * (each.verdict or 0):.0f}%" for each in whole.power
    ]


def test_older_results_have_no_next_step() -> None:
    """Neither steps nor a reason: no section; a reason alone is said in one line."""
    made = make_results()
    assert next_of(made) is None
    found = next_of(changed(made, {"next_steps_reason": "needs 2 seeds"}))
    assert isinstance(found, Missing)
    assert "needs 2 seeds" in render_html(changed(made, {"next_steps_reason": "needs 2 seeds"}))
