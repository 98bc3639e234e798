"""Thousands of runs: what is cut says how much and where the rest is, and what is drawn is right."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from analysis.document import Results
from analysis.results.model import Curve
from reports.figures.curves import MOST_LINES, curve_figures
from reports.figures.forest import MOST as MOST_SETTINGS
from reports.figures.forest import primary_figure
from reports.render.cells import Column, Table, beginning
from reports.sections.run_table import MOST as MOST_RUNS
from reports.sections.run_table import MOST_CELLS, Runs, cells_of, runs_of
from tests.reports.sample_results import changed, make_results


@pytest.fixture(scope="module")
def base() -> Results:
    return make_results()


def test_a_long_table_ends_with_a_pointer(base: Results) -> None:
    """Rows and the note against the number left out; a table that just fits is left as it is."""
    table = Table("c", [Column("x")], [[str(row)] for row in range(5)], "Said.")
    assert beginning(table, 5, "x.csv") == table
    cut = beginning(table, 3, "x.csv")
    assert [row[0] for row in cut.rows] == ["0", "1", "2"]
    assert cut.note == "2 more rows in x.csv. Said."
    runs = runs_of(base.model_copy(update={"runs": base.runs * 20}))
    assert isinstance(runs, Runs)
    assert len(runs.table.rows) == MOST_RUNS
    assert runs.table.note.startswith(f"{20 * len(base.runs) - MOST_RUNS} more rows in tables/runs.csv.")
    many = cells_of(base.model_copy(update={"settings": [f"s{number}" for number in range(200)]}))
    assert len(many.primary.rows) == MOST_CELLS
    assert "50 more rows in tables/cells.csv." in many.primary.note


def test_the_forest_plot_shows_even_ranks(base: Results) -> None:
    """Of 1,000 settings in a shuffled order: 100 rows from the largest difference down to the smallest."""
    first = base.comparisons[0]
    one = first.differences[0]
    values = [(number * 617) % 1000 for number in range(1000)]
    differences = [
        one.model_copy(update={"setting": f"s{value}", "mean": value / 100.0, "values": []})
        for value in values
    ]
    comparisons = [first.model_copy(update={"differences": differences})]
    found = primary_figure(changed(base, {"comparisons": comparisons}))
    assert found is not None
    rows = [int(name) for name in re.findall(r'class="row">s(\d+)<', found.picture)]
    assert len(rows) == MOST_SETTINGS
    assert rows == sorted(rows, reverse=True)
    assert (rows[0], rows[-1]) == (999, 0)
    assert max(a - b for a, b in pairwise(rows)) <= 11
    assert found.rows.startswith("100 of 1,000 settings are drawn, at even ranks")


def test_a_crowd_of_curves_is_a_band(base: Results) -> None:
    """Runs whose values are 0..200 at every step: the band's ends lie where the axis puts 20 and 180."""
    curves = [
        Curve(arm=arm, setting="s", seed=seed, name="loss", steps=[1, 2], values=[float(seed)] * 2)
        for arm in ("dpo", "adadpo")
        for seed in range(201)
    ]
    assert len(curves) > MOST_LINES
    [figure] = curve_figures(changed(base, {"curves": curves}))
    picture = str(figure.picture)
    assert 'class="run' not in picture
    [dpo, _] = re.findall(r'<path d="([^"]+)" class="between arm-\d"/>', picture)
    ticks = {
        float(text): float(y) - 4
        for y, text in re.findall(r'y="([\d.]+)" class="tick" text-anchor="end">([\d.]+)<', picture)
    }
    (low, high) = (ticks[50.0], ticks[150.0])
    scale = (high - low) / 100
    ends = sorted({float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", dpo)})
    assert ends == pytest.approx([low + 130 * scale, low - 30 * scale], abs=0.2)
    assert figure.notes[0] == "Band: 10% to 90% quantile of the arm's runs at each step."
