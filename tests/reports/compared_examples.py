"""A comparison of two annotation files, made up."""

from __future__ import annotations

from typing import Any

from analysis.alpaca_eval.integrity_gate import Flag, Integrity
from analysis.prompts.paired import Difference, FileComparison, PromptPair, Score, count_prompts


def make_pairs(n: int = 12, text: str = "") -> list[PromptPair]:
    """A wins every third prompt that B loses, B every fourth that A loses, by different margins."""
    pairs = []
    for i in range(n):
        a, b = (1.9 - i / 100, 1.1) if i % 3 == 0 else (1.2, 1.7 + i / 100) if i % 4 == 0 else (1.0, 1.0)
        pairs.append(
            PromptPair(f"Question {i}{text}", f"Base {i}{text}", f"Mine {i}{text}", f"Theirs {i}{text}", a, b)
        )
    return pairs


def score(letter: str, flags: list[Flag] | None = None, **changes: Any) -> Score:
    values: dict[str, Any] = {
        "source": f"runs/{letter}/annotations.json",
        "sha256": letter * 64,
        "generator": f"model-{letter}",
        "baseline": "gpt4",
        "judge": "weighted",
        "n": 12,
        "n_missing": 0,
        "wins": 4,
        "losses": 8,
        "draws": 0,
        "win_rate": 41.5,
        "win_rate_se": 3.0,
        "length_controlled_win_rate": 44.25,
        "length_controlled_win_rate_se": 3.5,
        "length_controlled_win_rate_interval": (38.0, 51.0),
        "lc_method": "no_difficulty",
        "calibration": None,
        "reason": None,
        "mean_length": 120.0,
        "baseline_mean_length": 100.0,
        "integrity": Integrity(n=12, flags=flags or []),
    }
    return Score.model_validate(values | changes)


def difference(
    metric: str, label: str, estimate: float | None, p: float | None, reason: str | None = None
) -> Difference:
    return Difference.model_validate(
        {
            "metric": metric,
            "label": label,
            "a": 44.25 if estimate is not None else None,
            "b": 44.25 - estimate if estimate is not None else 40.0,
            "estimate": estimate,
            "standard_error": None if p is None else 1.25,
            "low": None if p is None or estimate is None else estimate - 2.5,
            "high": None if p is None or estimate is None else estimate + 2.5,
            "confidence": 0.95,
            "p_value": p,
            "undefined": 0,
            "reason": reason,
        }
    )


def make_compared(pairs: list[PromptPair], lc: Difference | None = None, **changes: Any) -> FileComparison:
    values = {
        "a": score("a"),
        "b": score("b"),
        "differences": [
            lc or difference("length_controlled_win_rate", "LC win rate", 3.25, 0.012),
            difference("win_rate", "Win rate", 2.0, 0.2),
        ],
        "counts": count_prompts(pairs),
        "only_a": 0,
        "only_b": 0,
        "unjudged": 0,
        "replicates": 2000,
        "seed": 0,
    }
    return FileComparison(**(values | changes))
