"""The models of the public leaderboard, as annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from analysis.alpaca_eval.calibration import Calibration, read_calibration

# Models whose files lack prompts: the published LC used the wrong difficulties for them.
INCOMPLETE = ["alpaca-7b_concise", "gpt35_turbo_instruct", "minotaur-13b", "phi-2"]


def leaderboard_runs(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Annotations of the 40 models: the data hold lengths, so outputs are that many letters."""
    frame = pd.read_csv(folder / "annotations.csv.gz")
    return {
        str(model): [
            {
                "instruction": f"prompt {index}",
                "output_1": "x" * length_1,
                "output_2": "x" * length_2,
                "generator_1": "gpt4_1106_preview",
                "generator_2": model,
                "annotator": "weighted_alpaca_eval_gpt4_turbo",
                "preference": preference,
            }
            for index, length_1, length_2, preference in zip(
                rows["index"], rows["len_1"], rows["len_2"], rows["preference"], strict=True
            )
        ]
        for model, rows in frame.groupby("model")
    }


def reconstructed_calibration(folder: Path) -> Calibration:
    return read_calibration(
        folder / "df_gamed_reconstructed.csv", instructions=[f"prompt {index}" for index in range(805)]
    )


def published_lc(folder: Path) -> dict[str, float]:
    frame = pd.read_csv(folder / "leaderboard.csv", index_col=0)
    return {str(model): float(lc) for model, lc in frame["length_controlled_winrate"].items()}
