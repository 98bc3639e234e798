"""Length-controlled win rates of many runs at once, against the careful fit of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.alpaca_eval.calibration import Calibration
from analysis.alpaca_eval.length_control import CELLS, LcData, fit_length_control, length_controlled_of_each


def calibration(n: int, method: str) -> Calibration | None:
    """Of n prompts; the official formula has gamed rows."""
    rng = np.random.default_rng(3)
    gamed = 30 if method == "length_controlled_v1" else 0
    if method == "no_difficulty":
        return None
    return Calibration(
        method=method,  # type: ignore[arg-type]
        difficulty=rng.normal(size=n),
        instructions=None,
        gamed_design=np.column_stack(
            [np.tanh(rng.normal(size=gamed)), rng.normal(size=gamed), np.zeros(gamed)]
        ),
        gamed_targets=rng.uniform(size=gamed),
        fingerprint="made up",
    )


def a_run(n: int, known: Calibration | None, seed: int, kind: str = "usual") -> LcData:
    rng = np.random.default_rng(seed)
    delta = rng.integers(-300, 300, n).astype(float)
    targets = rng.choice([0, 0.2, 0.5, 0.9, 1], n)
    if kind == "unjudged":
        targets[rng.random(n) < 0.3] = np.nan
    elif kind == "nothing judged":
        targets[:] = np.nan
    elif kind == "equal lengths":
        delta[:] = 17.0
    elif kind == "always wins":
        targets[:] = 1.0
    elif kind == "wins by length":
        targets = (delta > 0).astype(float)
    return LcData(targets, delta, None if known is None else known.difficulty[:n])


KINDS = ["usual", "unjudged", "nothing judged", "equal lengths", "always wins", "wins by length"]


@pytest.mark.parametrize("method", ["no_difficulty", "joint_difficulty", "length_controlled_v1"])
@settings(max_examples=60, deadline=None)
@given(
    runs=st.lists(
        st.tuples(st.integers(1, 40), st.sampled_from(KINDS), st.integers(0, 99)), min_size=1, max_size=8
    )
)
def test_each_is_the_careful_fit(method: str, runs: list[tuple[int, str, int]]) -> None:
    """Runs of unlike sizes, some without an LC, under weights 0 to 3: the value of each fit alone, or none."""
    known = calibration(40, method)
    data = [a_run(n, known, seed, kind) for n, kind, seed in runs]
    counts = [
        np.random.default_rng(seed).integers(0, 4, n).astype(float) if seed % 3 else np.ones(n)
        for n, _, seed in runs
    ]
    expected: list[Any] = [
        fit_length_control(one, known, count).length_controlled_win_rate
        for one, count in zip(data, counts, strict=True)
    ]
    got = length_controlled_of_each(data, counts, known)
    np.testing.assert_allclose(
        got, [np.nan if one is None else one for one in expected], rtol=1e-7, atol=1e-7
    )


def test_more_runs_than_one_stack_holds() -> None:
    """Stacks of 40 runs and a rest; most have a value."""
    n = CELLS // 40
    data = [a_run(n, None, seed) for seed in range(50)]
    counts = [np.ones(n)] * 50
    expected: list[Any] = [fit_length_control(one, None).length_controlled_win_rate for one in data]
    assert None not in expected
    np.testing.assert_allclose(length_controlled_of_each(data, counts, None), expected, rtol=1e-9)
    assert length_controlled_of_each([], [], None).shape == (0,)
