"""Whether an evaluation can be carried out here: asked before any GPU hour or dollar is spent on it."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from adadpo.errors import FailureError, JudgeError, ModelError, UserError
from adadpo.models.load import prepare_model, resolve_model
from analysis.judges.config import AlpacaEval, RewardModel, judge_config
from sweeps.config.evaluation import require_constraints
from sweeps.config.launch import Launch
from sweeps.evaluation.judge_and_score import asset, calibration_of, load_baseline, load_prompts
from sweeps.store.job import Evaluation

TRAINING_PACKAGES = ("torch", "transformers", "trl", "datasets", "accelerate", "peft", "safetensors")


def require_training_packages() -> None:
    """Fail where models cannot be trained or run.

    Raises:
        UserError: packages are missing.
    """
    if missing := [name for name in TRAINING_PACKAGES if find_spec(name) is None]:
        raise UserError(f"training needs {', '.join(missing)}: pip install 'adadpo[train]'")


def require_strategy(processes: int, strategy: str) -> None:
    """Fail where several processes cannot share a run as they are to.

    Raises:
        UserError: DeepSpeed is missing.
    """
    if processes > 1 and strategy == "zero3" and find_spec("deepspeed") is None:
        raise UserError(
            "launch.strategy zero3 needs DeepSpeed: pip install deepspeed; or choose fsdp (torch's own) or ddp"
        )


def require_path(root: Path, launch: Launch) -> None:
    """Fail where an executor would take a part of the store's path for something else.

    Submitit and Slurm put a job's id in the place of `%j` and the like; for sbatch a backslash and the end of a line
    have meanings of their own, and the jobs would end without a word.

    Raises:
        UserError: which characters.
    """
    special = {"inline": "", "local": "%", "slurm": "%\\\n\r"}[launch.executor]
    if wrong := [character for character in special if character in str(root)]:
        raise UserError(
            f"store {str(root)!r}: launch.executor {launch.executor} cannot use a path with "
            f"{', '.join(map(repr, wrong))}; choose another by --store"
        )


def require_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Fetch what an evaluation reads, and fail where its judge could not start.

    Raises:
        UserError: the judge's package, key or prices are missing, or the prompts are not for it.
        FailureError: a file or a model cannot be had, or does not fit the prompts.
    """
    config = None if evaluation.judge is None else judge_config(evaluation.judge)
    if isinstance(config, AlpacaEval):
        from analysis.judges.alpaca import require_ready

        try:
            require_ready(config, os.environ)
        except JudgeError as error:
            raise UserError(f"judge: {error}") from error
    for name in evaluation.needs_assets:
        with console.status(f"fetching AlpacaEval's {escape(name)} (once)"):
            asset(name)
    prompts = load_prompts(evaluation)
    if evaluation.baseline != "reference":
        load_baseline(evaluation, prompts)
    if config is not None:
        calibration_of(evaluation)
        if config.kind == "rubric":
            require_constraints(prompts, evaluation.prompts)
    if isinstance(config, RewardModel):
        require_training_packages()
        try:
            with console.status(f"preparing the judge {escape(config.model)} (downloads once)"):
                prepare_model(resolve_model(config.model))
        except ModelError as error:
            raise FailureError(f"judge: {error}") from error
