"""How responses are judged: which judge, which formula for LC, and the id of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from adadpo.data.pairs import Text
from adadpo.errors import FailureError, UserError
from adadpo.models.load import resolve_model
from analysis.judges.config import AlpacaEval, Import, RewardModel, Rubric
from sweeps.config.schema import Judging
from sweeps.config.yaml_source import in_folder
from sweeps.store.ids import canonical_json, digest, file_digest
from sweeps.store.job import ALPACA_EVAL_BASELINE, Evaluation

OFFICIAL_JUDGE = "weighted_alpaca_eval_gpt4_turbo"


def judged_by(evaluation: Evaluation, evaluate: Judging, folder: Path) -> Evaluation:
    """The same responses under another judge or another formula for LC.

    Raises:
        JudgeError, ModelError, OSError: the judge cannot be used; the message says why.
        UserError: the calibration cannot be read.
    """
    config = None if evaluate.judge.kind == "none" else evaluate.judge
    if config is not None:
        config = config.model_copy(update=_located(config, folder))
    calibration = None if evaluate.calibration is None else Path(in_folder(evaluate.calibration, folder))
    method = evaluate.lc_method
    if method == "auto":
        official = evaluation.prompts_path is None and evaluation.baseline == ALPACA_EVAL_BASELINE
        asked = (getattr(config, "config", None), getattr(config, "model", None))
        official = official and asked == (OFFICIAL_JUDGE, None)
        method = "length_controlled_v1" if official or calibration else "no_difficulty"
    judged = evaluation.model_copy(
        update={
            "judge": None if config is None else config.model_dump(mode="json"),
            "lc_method": method,
            "calibration": None if calibration is None else str(calibration),
        }
    )
    return judged.model_copy(update={"judgement_id": judgement_id(judged, config)})


def judgement_id(evaluation: Evaluation, config: Rubric | AlpacaEval | RewardModel | Import | None) -> str:
    """The id of what turns responses into scores, as the judge's files and packages are now.

    Raises:
        JudgeError, ModelError, OSError, UserError: they cannot be read.
    """
    from analysis.judges.factory import judge_identity

    described = {
        "baseline": evaluation.baseline_identity,
        "judge": None
        if config is None
        else judge_identity(config, lambda name: resolve_model(name).identity),
        "lc_method": evaluation.lc_method,
        "calibration": None
        if evaluation.calibration is None
        else _calibration_digest(evaluation.calibration),
    }
    return digest(described)


def _calibration_digest(path: str) -> str:
    try:
        return file_digest(Path(path))
    except OSError as error:
        raise UserError(f"cannot read calibration {path}: {error.strerror}") from error


def _located(config: BaseModel, folder: Path) -> dict[str, str]:
    """The paths of a judge's configuration from a folder on; a served model's name is none."""
    keys = {"alpaca_eval": "config", "reward_model": "model", "import": "path"}
    key = keys.get(getattr(config, "kind", ""))
    if key is None:
        return {}
    value = getattr(config, key)
    # alpaca_eval calls folders of results by its configurations' names
    own = any(path.is_file() for path in (folder / value, folder / value / "configs.yaml"))
    is_name = key == "config" and "/" not in value and not own
    return {} if is_name else {key: in_folder(value, folder)}


# Files of an evaluation: prompts, and the responses of a baseline.


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
