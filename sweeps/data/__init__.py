"""The data set that ships with the project, `builtin:instructions` in a sweep.

Short everyday requests, each with two constraints that a program can verify; see `README.md` beside this
file. The three splits share no topic. Reading it needs no torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

BUILTIN_INSTRUCTIONS = "builtin:instructions"
"""The name by which a sweep asks for it."""

Split = Literal["train", "heldout", "evaluation"]
_FILES: dict[Split, str] = {
    "train": "train.jsonl",
    "heldout": "heldout.jsonl",
    "evaluation": "evaluation.json",
}


def builtin_instructions_path(split: Split) -> Path:
    """File of one split: preference pairs ("train", "heldout") as JSON lines, or the evaluation prompts as
    JSON.

    Raises:
        ValueError: there is no such split.
    """
    if split not in _FILES:
        raise ValueError(f"{BUILTIN_INSTRUCTIONS} has no split {split!r}; choose from {', '.join(_FILES)}")
    return Path(__file__).with_name(_FILES[split])


def load_preferences(split: Literal["train", "heldout"]) -> list[dict[str, Any]]:
    """Preference pairs for TRL: `prompt`, `chosen` and `rejected`, each a list of messages."""
    with builtin_instructions_path(split).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def load_evaluation() -> list[dict[str, Any]]:
    """Evaluation prompts: `instruction`, `prompt` (messages), `dataset`, `constraints` and `keywords`.

    `instruction` is the user's message alone, as AlpacaEval knows it; `constraints` and `keywords` are what
    `analysis.judges.verifier.score` takes.
    """
    loaded: list[dict[str, Any]] = json.loads(builtin_instructions_path("evaluation").read_text("utf-8"))
    return loaded
