"""Time of the length-controlled win rate, against alpaca_eval's, and of its bootstrap; one JSON file.

    OMP_NUM_THREADS=1 .venv/bin/python bench/length_control.py bench/results/length_control.json [DATA]

DATA is a folder with `annotations.csv.gz` (model, index, len_1, len_2, preference) and `df_gamed_reconstructed.csv`;
without it, simulated annotations of the same size. Both functions get the same lists of records, models in turn.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import machine

from analysis.alpaca_eval.calibration import read_calibration
from analysis.alpaca_eval.difficulty import joint_difficulty
from analysis.alpaca_eval.length_control import fit_length_control, lc_data, length_controlled_win_rate
from analysis.prompts.bootstrap import prompt_bootstrap

REPEATS = 5  # of alpaca_eval's function for each model; ours is repeated ten times as often
REPLICATES = 2000


def main(result_file: Path, data: Path | None) -> None:
    frame, gamed = simulated() if data is None else read(data)
    runs = {str(model): annotations(str(model), rows) for model, rows in frame.groupby("model")}
    calibration = read_calibration(gamed, instructions=[f"prompt {k}" for k in range(805)])
    result: dict[str, Any] = {
        "what": "length_controlled_v1: one win rate, and the paired prompt bootstrap of all models",
        "data": "simulated"
        if data is None
        else "annotations of 40 leaderboard models, reconstructed calibration",
        "models": len(runs),
        "rows": sum(map(len, runs.values())),
        "machine": machine("numpy", "pandas", "scipy", "scikit-learn", "alpaca-eval"),
        **one_win_rate(runs, calibration, gamed),
    }
    for name, given in {"length_controlled_v1": calibration, "no_difficulty": None}.items():
        begin = time.perf_counter()
        prompt_bootstrap(runs, rng=np.random.default_rng(0), calibration=given, replicates=REPLICATES)
        result[f"bootstrap_{name}_seconds"] = round(time.perf_counter() - begin, 2)
    result["bootstrap_replicates"] = REPLICATES
    begin = time.perf_counter()
    joint_difficulty(runs.values())
    result["joint_difficulty_seconds"] = round(time.perf_counter() - begin, 3)
    # With alpaca_eval, scikit-learn and the data loaded.
    result["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    result_file.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def one_win_rate(
    runs: dict[str, list[dict[str, Any]]], calibration: Any, gamed: pd.DataFrame
) -> dict[str, Any]:
    """Milliseconds per model, and how far the two functions' win rates are apart."""
    theirs = alpaca_eval_function(gamed)
    ours_ms, fit_ms, theirs_ms, apart = [], [], [], []
    for run in runs.values():
        prepared = lc_data(run, calibration, "row")
        for _ in range(REPEATS):
            milliseconds, their_lc = timed(lambda run=run: theirs(run))
            theirs_ms.append(milliseconds)
            for _ in range(10):
                milliseconds, our = timed(
                    lambda run=run: length_controlled_win_rate(run, calibration, align="row")
                )
                ours_ms.append(milliseconds)
                fit_ms.append(timed(lambda p=prepared: fit_length_control(p, calibration))[0])
        apart.append(abs(our.length_controlled_win_rate - their_lc))
    return {
        "alpaca_eval_ms": summary(theirs_ms),
        "length_controlled_win_rate_ms": summary(ours_ms),
        "fit_alone_ms": summary(fit_ms),
        "times_as_fast": round(float(np.median(theirs_ms) / np.median(ours_ms)), 1),
        "largest_difference_points": round(max(apart), 4),
        "mean_difference_points": round(float(np.mean(apart)), 4),
    }


def alpaca_eval_function(gamed: pd.DataFrame) -> Any:
    warnings.simplefilter("ignore")  # pkg_resources, scikit-learn's penalty=
    from alpaca_eval.metrics import glm_winrate

    folder = tempfile.mkdtemp()
    file = Path(folder) / "df_gamed.csv"
    gamed.to_csv(file, index=False)
    glm_winrate.hf_hub_download = lambda **_: file

    def lc(run: list[dict[str, Any]]) -> float:
        metrics = glm_winrate.get_length_controlled_winrate(
            run, save_weights_dir=None, is_add_glm_preference_inplace=False, is_warn_extreme_changes=False
        )
        return float(metrics["length_controlled_winrate"])

    return lc


def timed(function: Any) -> tuple[float, Any]:
    begin = time.perf_counter()
    value = function()
    return 1e3 * (time.perf_counter() - begin), value


def summary(values: list[float]) -> dict[str, float]:
    return {
        name: round(float(np.quantile(values, q)), 3)
        for name, q in (("median", 0.5), ("p10", 0.1), ("p90", 0.9))
    }


def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    return pd.read_csv(folder / "annotations.csv.gz"), pd.read_csv(folder / "df_gamed_reconstructed.csv")


def simulated() -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    n, models = 805, 40
    difficulty, lengths = rng.normal(size=n), rng.integers(500, 3000, n)
    frames = []
    for number in range(models):
        own = rng.integers(200, 3000, n)
        delta = lengths - own
        log_odds = rng.normal() - 1 - np.tanh(delta / delta.std(ddof=1)) + difficulty + rng.normal(size=n)
        frames.append(
            pd.DataFrame(
                {
                    "model": f"model {number:02}",
                    "index": range(n),
                    "len_1": lengths,
                    "len_2": own,
                    "preference": 1 + 1 / (1 + np.exp(-log_odds)),
                }
            )
        )
    standardised = rng.normal(size=2 * n)
    gamed = pd.DataFrame(
        {
            "preference": 1 / (1 + np.exp(np.tanh(standardised) - np.tile(difficulty, 2))),
            "index": np.tile(np.arange(n), 2),
            "std_delta_len": standardised,
            "instruction_difficulty": np.tile(difficulty, 2),
            "not_gamed_baseline": False,
            "model": np.repeat(["verbose", "concise"], n),
        }
    )
    return pd.concat(frames), gamed


def annotations(model: str, rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [
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


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
