"""How responses are judged: which judge, which formula for LC, and the id of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from adadpo.config import Decoding
from adadpo.models import resolve_model
from analysis.judges.config import AlpacaEval, Import, RewardModel, Rubric
from sweeps.errors import UserError
from sweeps.identity import digest, file_digest
from sweeps.spec import Judging
from sweeps.yamlfile import in_folder

ALPACA_EVAL_BASELINE = "gpt4_1106_preview"
OFFICIAL_JUDGE = "weighted_alpaca_eval_gpt4_turbo"


class Evaluation(BaseModel):
    """How every run of the sweep is evaluated; it travels to jobs as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompts: str  # as the user wrote it
    prompts_path: str | None  # None: AlpacaEval's, in the cache
    prompts_identity: str
    limit: int | None
    baseline: str
    baseline_identity: str
    judge: dict[str, Any] | None  # a `JudgeConfig`; None: the responses are not judged
    lc_method: Literal["length_controlled_v1", "joint_difficulty", "no_difficulty"]
    calibration: str | None  # a file; None: AlpacaEval's, in the cache
    decoding: Decoding
    kl_prompts: int | None
    generation_id: str  # of what decides the responses
    judgement_id: str  # of what decides their scores

    @property
    def eval_id(self) -> str:
        """Where a run's results of this evaluation are, below `eval/`."""
        return f"{self.generation_id}/{self.judgement_id}"

    @property
    def judge_name(self) -> str:
        """For people."""
        return judge_name(self.judge)

    @property
    def needs_assets(self) -> list[str]:
        """AlpacaEval's files that have to be in the cache."""
        from analysis.alpaca_eval_assets import BASELINE, CALIBRATION, PROMPTS

        needed = []
        if self.prompts_path is None:
            needed.append(PROMPTS)
        if self.baseline == ALPACA_EVAL_BASELINE:
            needed.append(BASELINE)
        if self.lc_method == "length_controlled_v1" and not self.calibration:
            needed += [PROMPTS, CALIBRATION]
        return list(dict.fromkeys(needed))


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


def judge_name(judge: dict[str, Any] | None) -> str:
    """`rubric`, `alpaca_eval weighted_alpaca_eval_gpt4_turbo`, ...; of a path only its last part."""
    if judge is None:
        return "none"
    details = [str(judge[key]) for key in ("config", "model", "path") if judge.get(key)]
    details = [Path(each).name if Path(each).is_absolute() else each for each in details]
    options = ["both orders"] if judge.get("both_orders") else []
    if judge.get("repeats", 1) > 1:
        options.append(f"{judge['repeats']} judgements each")
    return " ".join([judge["kind"], *details]) + (f" ({', '.join(options)})" if options else "")
