"""Searches: the file of a small one, and results made up by a known function of the setting."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from sweeps.search.loop import advance
from sweeps.state.sweep import Sweep
from tests.sweeps.made_up_results import make_up
from tests.sweeps.sweep_examples import SMALL, opened, write_sweep

GRID = "grid: {beta: [0.05, 0.1]}\n"
SPACE = "{beta: {low: 0.01, high: 1.0, log: true}, learning_rate: {low: 1.0e-5, high: 1.0e-2, log: true}}"


def search_text(
    options: str = "trials: 12, startup: 4, parallel: 2", space: str = SPACE, name: str = "small"
) -> str:
    """A sweep file with a search."""
    text = SMALL.replace(GRID, f"search: {{space: {space}, {options}}}\n").replace(
        "name: small", f"name: {name}"
    )
    return text.replace(", learning_rate: 1.0e-3", "") if "learning_rate" in space else text


def hill(setting: dict[str, float], arm: str, seed: int) -> float:
    """A win rate that is best, 60, at beta 0.1 and learning rate 3e-4."""
    far = math.log10(setting["beta"] / 0.1) ** 2 + math.log10(setting["learning_rate"] / 3e-4) ** 2
    return 60 - 20 * far + (0.5 if arm == "adadpo" else 0) + 0.1 * seed


def run_all(sweep: Sweep, value: Callable[..., float] = hill, most: int = 1000) -> Sweep:
    """Launch's loop with made-up results; at most so many of them."""
    while (sweep := advance(sweep)) and (waiting := sweep.select("waiting")) and most > 0:
        for run in waiting[:most]:
            make_up(sweep, run, value(run.hyperparameters, run.arm, run.seed))
        most -= len(waiting)
    return sweep


def opened_search(folder: Path, text: str | None = None) -> Sweep:
    return opened(write_sweep(folder / "small.yaml", text or search_text()), folder / "store")
