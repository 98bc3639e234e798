"""Made-up judged runs: 2 arms x settings x seeds over the same prompts, and their table."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from analysis.alpaca_eval.length_control import length_controlled_win_rate
from analysis.alpaca_eval.win_rates import win_rate
from analysis.results.model import Declared, RunRow

SEEDS = (0, 1)
DECLARED = Declared(baseline="dpo", candidate="adadpo", primary="length_controlled_win_rate")


def annotations(seed: int, prompts: int, gain: float = 0.0) -> list[dict[str, Any]]:  # type: ignore[no-redef]
    """Preferences in [1, 2] that depend on length, on the prompt and on `gain` log odds."""
    shared, own = np.random.default_rng(99), np.random.default_rng(seed)
    lengths, easy = shared.integers(20, 200, prompts), shared.normal(size=prompts)
    rows = []
    for k in range(prompts):
        length = int(own.integers(20, 200))
        odds = gain + easy[k] + 0.01 * (length - lengths[k]) + own.normal()
        rows.append(
            {
                "instruction": f"prompt {k}",
                "output_1": "a" * int(lengths[k]),
                "generator_1": "reference",
                "output_2": "b" * length,
                "generator_2": f"run {seed}",
                "annotator": "judge",
                "preference": 1 + 1 / (1 + float(np.exp(-odds))),
            }
        )
    return rows


def judged(
    settings: int = 3, prompts: int = 60, gains: dict[str, list[float]] | None = None
) -> tuple[dict[str, list[dict[str, Any]]], list[RunRow], list[str]]:
    """Annotations by run id, the table of runs, the settings; `gains`: arm -> log odds at each setting."""
    found, rows = {}, []
    names = [f"beta={k}" for k in range(settings)]
    for number, (arm, k, seed) in enumerate(product(("dpo", "adadpo"), range(settings), SEEDS)):
        gain = gains[arm][k] if gains else 0.0
        run_id = f"{arm}-{k}-{seed}"
        found[run_id] = annotations(number, prompts, gain)
        wr = win_rate(found[run_id]).win_rate
        lc = length_controlled_win_rate(found[run_id]).length_controlled_win_rate
        assert wr is not None
        assert lc is not None
        values = {"win_rate": wr, "length_controlled_win_rate": lc, "lc_minus_wr": lc - wr}
        rows.append(
            RunRow(
                run_id=run_id,
                arm=arm,
                setting=names[k],
                hyperparameters={"beta": k},
                seed=seed,
                state="done",
                metrics=values,
            )
        )
    return found, rows, names
