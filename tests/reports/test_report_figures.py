"""Axes, marks and curves against the numbers they stand for."""

from __future__ import annotations

import math
import re

import pytest

from analysis.document import Results
from analysis.results.model import Curve
from reports.figures import svg
from reports.figures.curves import curve_figures
from reports.figures.forest import differences_figure
from reports.figures.panel import LETTER, WIDTH, Panel
from reports.figures.scale import LARGEST, Scale, drawable, fit, tick_label
from reports.render.formats import metric_named
from tests.reports.sample_results import changed, make_results


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (-0.9, 3.1, [0, 1, 2, 3]),
        (51.0, 51.02, [51, 51.005, 51.01, 51.015, 51.02]),
    ],
)
def test_linear_ticks(low: float, high: float, ticks: list[float]) -> None:
    """Checks ticks against round numbers inside the axis."""
    assert Scale(low, high, 0, 100).ticks(5 if high != 3.1 else 4) == pytest.approx(ticks)


def test_log_axis() -> None:
    """Checks positions and ticks of a log axis: equal ratios are equal distances."""
    axis = Scale(0.01, 100, 0, 400, log=True)
    assert [axis(value) for value in (0.01, 0.1, 1, 10, 100)] == pytest.approx([0, 100, 200, 300, 400])
    assert axis.ticks() == [0.01, 0.1, 1, 10, 100]
    narrow = Scale(0.9, 1.2, 0, 100, log=True)
    assert len(narrow.ticks()) >= 2


@pytest.mark.parametrize("values", [[], [0.0], [5.0, 5.0], [-1e99, 1e99], [1e-300, 1e-300], [1e15, 1e15 + 1]])
def test_any_values_make_an_axis(values: list[float]) -> None:
    """Checks that degenerate data make a finite axis with few ticks."""
    axis = fit(values, 0, 100)
    assert axis.low < axis.high
    assert all(math.isfinite(axis(value)) for value in values)
    assert len(axis.ticks()) < 20


def test_what_can_be_drawn() -> None:
    """Checks which values have a place on an axis."""
    assert drawable(0.0)
    assert not any(drawable(value) for value in (None, math.nan, math.inf, 10 * LARGEST))
    assert not any(drawable(value, log=True) for value in (0.0, -1.0))
    assert tick_label(-0.00001) == "−1e−5"


def test_path_lifts_the_pen() -> None:
    """Checks a line with gaps: a gap starts anew, a lone point is a dot."""
    assert svg.path([(0, 0), (1, 2.25), None, (3, 3), None, None]) == "M0 0L1 2.2M3 3h0"
    assert svg.path([]) == ""


def test_differences_figure_marks_every_difference(results: Results) -> None:
    """Checks the numbers of circles and diamonds against seeds with a pair and settings with a mean."""
    found = results.comparisons[0]
    html = differences_figure(results, found, metric_named(results, found.metric))
    pairs = sum(pair.value is not None for each in found.differences for pair in each.values)
    assert html.count("<circle") == pairs == 11
    assert html.count('class="mean"') == 6
    assert html.count('class="estimate"') == 1
    assert html.count('class="rope"') == 1


def test_mean_is_drawn_where_it_belongs(results: Results) -> None:
    """Checks the diamonds' places against the means: same order from left to right."""
    found = results.comparisons[0]
    html = differences_figure(results, found, metric_named(results, found.metric))
    places = [float(x) for x in re.findall(r'<polygon points="([\d.]+),[^"]*" class="mean"', html)]
    means = [each.mean or 0 for each in found.differences]
    ratio = (places[0] - places[1]) / (means[0] - means[1])
    for place, mean in zip(places, means, strict=True):
        assert place - places[0] == pytest.approx(ratio * (mean - means[0]), abs=0.2)


def test_figure_without_differences_or_interval() -> None:
    """Checks figures of designs without pairs and without an interval: said in words, nothing drawn."""
    missing, few = make_results(missing=True), make_results(3, (0,))
    html = differences_figure(missing, missing.comparisons[0], missing.metrics[0])
    assert html.count("no pair") == 6
    assert "not defined" in html
    html = differences_figure(few, few.comparisons[0], few.metrics[0])
    assert "no interval at this level" in html
    assert 'class="interval"' not in html


def test_long_setting_takes_two_lines(results: Results) -> None:
    """Checks that a long setting is in the figure to its end."""
    found = results.comparisons[0]
    setting = "beta=0.1 learning_rate=1e-05 clip=10.0 balance=per_token warmup=0.1"
    first = found.differences[0].model_copy(update={"setting": setting})
    html = differences_figure(
        results, found.model_copy(update={"differences": [first]}), metric_named(results, found.metric)
    )
    assert "beta=0.1 learning_rate=1e-05 clip=10.0<" in html
    assert "balance=per_token warmup=0.1<" in html


def test_curves_have_a_line_per_run_and_a_mean_per_arm(results: Results) -> None:
    """Checks each figure's lines against runs and arms, and the arms' different dashes by class."""
    figures = curve_figures(results)
    assert [figure.title for figure in figures][:3] == [
        "Reward margin, training pairs (nats)",
        "Gradient ratio (log scale)",
        "Training loss",
    ]
    for figure in figures:
        html = str(figure.picture)
        assert html.count('class="run arm-0"') == html.count('class="run arm-1"') == 12
        means = re.findall(r'<path d="[^"]+" class="average (arm-\d)"', html)
        assert means == ["arm-0", "arm-1"]


def test_gradient_ratio_has_its_reference(results: Results) -> None:
    """Checks that only the gradient ratio has the reference line at 1, which is said in words."""
    with_line = [figure for figure in curve_figures(results) if 'class="reference"' in str(figure.picture)]
    assert [figure.title for figure in with_line] == ["Gradient ratio (log scale)"]
    assert "Dotted line: 1, balanced" in with_line[0].notes[0]


def _only(results: Results, name: str, *logged: list[float | None]) -> Results:
    curves = [
        Curve(arm="dpo", setting="s", seed=seed, name=name, steps=list(range(len(values))), values=values)
        for seed, values in enumerate(logged)
    ]
    return changed(results, {"curves": curves})


def test_values_that_cannot_be_drawn_are_counted(results: Results) -> None:
    """Checks the notes under a figure against the zeros, infinities and gaps it leaves out."""
    figure = curve_figures(_only(results, "gradient_ratio", [1.0, 0.0, None, math.inf, 2.0]))[0]
    assert "Not drawn: 2 values not above 0 or not finite." in figure.notes
    nothing = curve_figures(_only(results, "loss", [math.nan, None]))[0]
    assert nothing.notes == ["No finite value was logged."]


def test_mean_on_a_log_axis_is_geometric(results: Results) -> None:
    """Checks the mean of ratios 1/4 and 4 against 1: their geometric mean."""
    html = str(curve_figures(_only(results, "gradient_ratio", [0.25, 0.25], [4.0, 4.0]))[0].picture)
    mean = re.search(r'<path d="M[\d.]+ ([\d.]+)L[^"]*" class="average', html)
    line = re.search(r'y1="([\d.]+)"[^>]* class="reference"', html)
    assert mean
    assert line
    assert mean[1] == line[1]


def test_a_diverged_run_does_not_flatten_the_rest(results: Results) -> None:
    """Checks that one extreme value lies beyond the axis, which is said."""
    calm = [[0.5 + 0.01 * step for step in range(20)] for _ in range(5)]
    figure = curve_figures(_only(results, "loss", *calm, [0.5] * 19 + [1e6]))[0]
    assert "Extreme values lie outside the axis." in figure.notes


def test_long_runs_are_thinned_and_it_is_said(results: Results) -> None:
    """Checks the size of a figure of 10,000 steps, and its note."""
    figure = curve_figures(_only(results, "loss", [1 / (1 + step) for step in range(10_000)]))[0]
    assert len(str(figure.picture)) < 120_000
    assert any(note.startswith("One logged step in ") for note in figure.notes)


def test_a_legend_of_many_arms_stays_in_the_picture() -> None:
    """Six arms with long names: every name ends within the width, rows do not overlap, the chart begins below them."""
    panel = Panel([(f"arm {number} with a very long name", number) for number in range(6)])
    html = "".join(panel.legend)
    places = [
        (float(x), float(y), len(words))
        for x, y, words in re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="legend">([^<]+)<', html)
    ]
    assert len(places) == 6
    assert all(x + LETTER * letters <= WIDTH for x, _, letters in places)
    rows = sorted({y for _, y, _ in places})
    assert len(rows) == 3
    assert max(rows) < panel.top
    assert len(set(places)) == 6
    assert panel.notes == []
    assert "7 arms share 6 styles" in Panel([(f"arm {number}", number % 6) for number in range(7)]).notes[0]
    short = Panel([("dpo", 0), ("adadpo", 1)])
    assert (panel.top - short.top, panel.floor - panel.top) == (40, short.floor - short.top)


def test_a_side_without_room_has_no_words(results: Results) -> None:
    """A long name on a side that ends near zero would be cut: the words are drawn where they fit alone."""
    found, name = results.comparisons[0], "a candidate with a long name"
    declared = results.declared.model_copy(update={"candidate": name})
    named = results.model_copy(update={"declared": declared})
    metric = metric_named(results, found.metric)
    assert "a candidate with a long… better →" in differences_figure(named, found, metric)
    far = [each.model_copy(update={"mean": -1000.0, "values": []}) for each in found.differences]
    html = differences_figure(named, found.model_copy(update={"differences": far, "estimate": None}), metric)
    assert "better →" not in html
    assert "← dpo better" in html
