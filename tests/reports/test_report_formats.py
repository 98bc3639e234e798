"""Numbers and intervals as they are printed."""

from __future__ import annotations

import math

import pytest

from analysis.results.model import Interval, Metric
from reports.render import formats
from reports.render.cells import Column, Missing, Table, finalize

POINTS = Metric(name="m", label="M", unit="points", decimals=2, higher_is_better=True)


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.03125, "p = .031"),
        (0.0004, "p < .001"),
        (0.0, "p < .001"),
        (0.001, "p = .001"),
        (0.25, "p = .250"),
        (1.0, "p = 1"),
        (0.99999, "p > .999"),
        # beside an alpha of .05 these must not read as .050
        (0.0496, "p = .0496"),
        (0.0504, "p = .0504"),
        (0.05, "p = .050"),
    ],
)
def test_p_value(p: float, text: str) -> None:
    """Checks p-values against the reporting rules: APA style, never 0.000, never rounded onto alpha."""
    assert formats.p_value(p, 0.05) == text


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.03125, ".03125"), (0.25, ".25"), (1.0, "1"), (1.9073e-6, "1.9 × 10⁻⁶"), (0.0, "below 10⁻³⁰⁰")],
)
def test_exact_p(p: float, text: str) -> None:
    """Checks the long form of a p-value against hand-written ones."""
    assert formats.exact_p(p) == text


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (-1.234, False, "−1.23"),
        (1.234, True, "+1.23"),
        (-0.001, True, "0.00"),
        (0.0, True, "0.00"),
        (-1.5e9, False, "−1.50e+09"),
    ],
)
def test_decimal(value: float, signed: bool, text: str) -> None:
    """Checks numbers against real minus signs, unsigned zeros and bounded length."""
    assert formats.decimal(value, 2, signed=signed) == text


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_undefined_is_never_a_number(value: float | None) -> None:
    """Checks that what is not a finite number prints as a dash with a reason."""
    shown = formats.number(value, 2)
    assert isinstance(shown, Missing)
    assert "–" in finalize(shown)
    assert shown.reason in finalize(shown)


def test_mean_sd_undefined_parts() -> None:
    """Checks mean ± SD (n) with each part missing on its own against the printed text."""
    assert finalize(formats.mean_sd(1.5, 0.25, 3, POINTS)) == "1.50 ± 0.25 (3)"
    assert formats.SD_REASON in finalize(formats.mean_sd(1.5, None, 1, POINTS))
    assert formats.mean_sd(None, None, 0, POINTS) == Missing("no run has a value")


def test_interval_needs_both_ends() -> None:
    """Checks intervals with ends, without, and unbounded ones of a one-sided test."""
    full = Interval(estimate=1, low=-0.5, high=2, confidence=0.95, achieved=0.96, method="")
    assert formats.interval(full, 1) == "[−0.5, +2.0]"
    assert formats.interval(full.model_copy(update={"high": math.inf}), 1) == "[−0.5, ∞]"
    none = full.model_copy(update={"low": None, "reason": "n is 3"})
    assert formats.interval(none, 1) == Missing("n is 3")
    assert formats.interval(None, 1, reason="nothing") == Missing("nothing")


def test_levels_and_durations() -> None:
    """Checks confidence levels and wall times against hand-written ones."""
    assert [formats.level(x) for x in (0.95, 0.9609, 0.99999, 1.0)] == ["95%", "96.1%", "> 99.9%", "100%"]
    seconds = (0.4, 59, 723, 12_000)
    assert [formats.duration(x) for x in seconds] == ["0 s", "59 s", "12 min 03 s", "3 h 20 min"]
    assert isinstance(formats.duration(None), Missing)
    assert isinstance(formats.duration(-1), Missing)


def test_hyperparameters_read_as_in_the_sweep() -> None:
    """Checks hyperparameters against their spelling in YAML."""
    values = [None, True, 1e-05, 10, "per_token"]
    assert [formats.setting_value(value) for value in values] == ["none", "true", "1e-05", "10", "per_token"]


def test_unformatted_values_are_refused() -> None:
    """Checks that a float, `None` or bool never reaches the page unformatted."""
    for value in (1.5, None, True):
        with pytest.raises(TypeError, match="not ready to print"):
            finalize(value)


def test_reasons_of_a_table_are_listed_once() -> None:
    """Checks the notes under a table against the reasons in its cells, nested ones included."""
    rows = [["a", Missing("x")], ["b", ("1 ± ", Missing("y"))], ["c", Missing("x")]]
    assert Table("t", [Column("k"), Column("v")], rows).reasons == ["x", "y"]
