"""Files of an evaluation: prompts, and the responses of a baseline."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adadpo.data import Text
from sweeps.errors import FailureError, UserError
from sweeps.identity import canonical_json


def prompts_identity(prompts: list[dict[str, Any]]) -> str:
    """Changes exactly when the prompts do."""
    return hashlib.sha256(canonical_json(prompts).encode()).hexdigest()


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is not a number in JSON")


def read_prompts(path: Path, limit: int | None) -> list[dict[str, Any]]:
    """Evaluation prompts: a JSON list of objects with a unique `instruction`.

    Raises:
        UserError: unreadable, not such a list, or an instruction is empty or repeated.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except OSError as error:
        raise UserError(f"cannot read prompts {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from error
    if not isinstance(content, list) or not content:
        raise UserError(f"{path}: expected a list of prompts")
    for number, prompt in enumerate(content, start=1):
        if (
            not isinstance(prompt, dict)
            or not isinstance(prompt.get("instruction"), str)
            or not prompt["instruction"]
        ):
            raise UserError(f"{path}: prompt {number} has no text 'instruction'")
    instructions = [prompt["instruction"] for prompt in content]
    if repeated := [text for text in set(instructions) if instructions.count(text) > 1]:
        raise UserError(f"{path}: instruction is there twice: {repeated[0][:80]!r}")
    return content[:limit]


def require_constraints(prompts: Sequence[Mapping[str, Any]], name: str) -> None:
    """Make sure that the rubric judge can judge the answers to some prompts.

    Raises:
        UserError: a prompt has no constraints, or one that is not valid.
    """
    from analysis.judges.verifier import validate

    for number, prompt in enumerate(prompts, start=1):
        constraints = prompt.get("constraints")
        if not isinstance(constraints, list) or not constraints:
            raise UserError(
                f"{name}: the rubric judge needs 'constraints' in every prompt; prompt {number} has none"
            )
        for constraint in constraints:
            try:
                validate(constraint)
            except ValueError as error:
                raise UserError(f"{name}: prompt {number}: {error}") from error


def prompt_messages(prompt: Mapping[str, Any]) -> Text:
    """The conversation that a prompt starts: its `prompt` messages, else its instruction as the user's turn."""
    messages: Text | None = prompt.get("prompt")
    return messages or [{"role": "user", "content": prompt["instruction"]}]


def baseline_outputs(path: Path, prompts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A file's responses (AlpacaEval's model outputs), in the order of the prompts, joined by instruction.

    Raises:
        FailureError: unreadable, or a prompt has no response or several.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FailureError(f"cannot read baseline outputs {path}: {error}") from error
    found: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows if isinstance(rows, list) else [rows], start=1):
        for key in ("instruction", "output", "generator"):
            if not isinstance(row, dict) or not isinstance(row.get(key), str):
                raise FailureError(
                    f"{path}: output {number} has no text {key!r} (AlpacaEval's model outputs)"
                )
        if row["instruction"] in found:
            raise FailureError(f"{path}: two outputs for instruction {row['instruction'][:80]!r}")
        found[row["instruction"]] = row
    missing = [prompt["instruction"] for prompt in prompts if prompt["instruction"] not in found]
    if missing:
        raise FailureError(
            f"{path}: no output for {len(missing)} of {len(prompts)} prompts, first {missing[0][:80]!r}"
        )
    return [found[prompt["instruction"]] for prompt in prompts]
