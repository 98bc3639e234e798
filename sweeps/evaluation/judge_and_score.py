"""What an evaluation does beside generating: its prompts, judging, scores. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adadpo.errors import FailureError
from adadpo.files import cache_folder
from sweeps.config.evaluation import baseline_outputs, judgement_id, prompts_identity, read_prompts
from sweeps.store.ids import file_digest
from sweeps.store.job import ALPACA_EVAL_BASELINE, Evaluation

if TYPE_CHECKING:
    from analysis.judges import Judge
    from analysis.judges.config import RewardModel
    from analysis.judges.rewards import Scorer
    from analysis.prompts.bootstrap import PromptBootstrap

# The draws depend on the number of prompts alone, so every run of a sweep has the same.
BOOTSTRAP_SEED = 0
REPLICATES = 2000

Records = Sequence[Mapping[str, Any]]


def load_prompts(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The prompts, from their file or AlpacaEval's from the cache.

    Raises:
        FailureError: they cannot be had.
    """
    from analysis.alpaca_eval.assets import PROMPTS

    if evaluation.prompts_path is None:
        return read_prompts(asset(PROMPTS), evaluation.limit)
    prompts = read_prompts(Path(evaluation.prompts_path), evaluation.limit)
    if prompts_identity(prompts) != evaluation.prompts_identity:
        raise FailureError(f"{evaluation.prompts_path} changed since the runs were planned; launch again")
    return prompts


def load_baseline(evaluation: Evaluation, prompts: Records) -> list[dict[str, Any]]:
    """A baseline's responses that are in a file: the user's, or AlpacaEval's in the cache.

    Raises:
        FailureError: they cannot be had.
    """
    from analysis.alpaca_eval.assets import BASELINE

    if evaluation.baseline == ALPACA_EVAL_BASELINE:
        return baseline_outputs(asset(BASELINE), prompts)
    path = Path(evaluation.baseline)
    outputs = baseline_outputs(path, prompts)
    if f"sha256:{file_digest(path)}" != evaluation.baseline_identity:
        raise FailureError(f"{path} changed since the runs were planned; launch again")
    return outputs


def asset(name: str) -> Path:
    """One of AlpacaEval's files, fetched when it is not in the cache.

    Raises:
        FailureError: it cannot be had.
    """
    from adadpo.errors import AssetError
    from analysis.alpaca_eval.assets import fetch_assets

    try:
        return Path(fetch_assets(cache_folder(), [name])[0].path)
    except AssetError as error:
        raise FailureError(
            f"{error}; where there is a network: adadpo assets. Prompts, baseline and calibration can be files too"
        ) from error


def open_judge(evaluation: Evaluation, account: str) -> Judge | None:
    """The judge of an evaluation, with nothing loaded or asked yet; None where there is none.

    Args:
        evaluation: whose judge.
        account: the ledger that a cap on the cost is for: the sweep's name.

    Raises:
        JudgeError: a package that it needs is missing.
        FailureError: it is not the one that was planned: another version of a package, a file that changed.
    """
    from analysis.judges.config import judge_config
    from analysis.judges.factory import make_judge

    if evaluation.judge is None:
        return None
    config = judge_config(evaluation.judge)
    if judgement_id(evaluation, config) != evaluation.judgement_id:
        raise FailureError(
            f"the judge {evaluation.judge_name} changed since the runs were planned; launch again"
        )
    return make_judge(config, cache=cache_folder(), account=account, load_reward_model=_reward_model)


def judge_outputs(
    judge: Judge | None,
    prompts: Records,
    baseline: Records,
    outputs: Records,
    on_progress: Callable[[int, int], None],
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """AlpacaEval annotations of a policy's responses, and how judging went; none without a judge.

    Raises:
        JudgeError: the judge cannot go on.
    """
    if judge is None:
        return [], {"judge": "none", "pairs": 0, "missing": 0}
    found = judge(
        prompts,
        [row["output"] for row in baseline],
        [row["output"] for row in outputs],
        baseline_name=baseline[0]["generator"],
        candidate_name=outputs[0]["generator"],
        on_progress=on_progress,
    )
    _require_answers(found.summary)
    return found.annotations, found.summary


def _require_answers(summary: Mapping[str, Any]) -> None:
    """A judge that is down makes no judgement: kept, it would be quarantined for good.

    What cannot be answered later either (an answer that nobody can read, a refused question) is the judgement's own.

    Raises:
        JudgeError: it left so much unanswered that the evaluation would not count.
    """
    from adadpo.errors import JudgeError
    from analysis.alpaca_eval.integrity_gate import MAX_MISSING_SHARE

    failed = summary.get("answers_failed", 0)
    if not failed:
        return
    questions = failed + summary.get("answers_asked", 0) + summary.get("answers_cached", 0)
    if failed == questions or summary["answers_unavailable"] > MAX_MISSING_SHARE * questions:
        reasons = summary["failures"]
        raise JudgeError(
            f"the judge left {failed} of {questions} questions without an answer "
            f"({max(reasons, key=reasons.__getitem__)}); the answers it gave are kept, the same command asks for "
            "the rest"
        )


def _reward_model(config: RewardModel) -> Scorer:
    from adadpo.models.load import resolve_model
    from adadpo.models.reward_model import load_reward_model

    return load_reward_model(
        resolve_model(config.model),
        precision=config.precision,
        batch_size=config.batch_size,
        max_length=config.max_length,
    )


def score_annotations(
    evaluation: Evaluation,
    annotations: Records,
    outputs: Records,
    *,
    baseline: Records,
    versions: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {}),
) -> tuple[dict[str, Any], PromptBootstrap | None]:
    """What an evaluation comes to; undefined is None, with its reason, and WR never stands in for LC.

    Args:
        evaluation: says which formula length control uses. `joint_difficulty` needs every run of the sweep, so its LC
            is not here but in `joint.py`.
        annotations: by the judge; empty without one.
        outputs: of the policy.
        baseline: of the baseline.
        versions: of what made the responses, and of what made the baseline's where a model made them here.

    Returns:
        The scores, and what they come to under each draw of prompts; None where that is not this run's alone to say.
    """
    from analysis.alpaca_eval.win_rates import win_rate

    lengths = [len(row["output"]) for row in outputs]
    scores: dict[str, Any] = {
        "prompts": len(outputs),
        "mean_length": sum(lengths) / len(lengths),
        "empty_outputs": sum(length == 0 for length in lengths),
    }
    if not annotations:
        reason = "the responses were not judged (judge: none)"
        return scores | {
            "win_rate": None,
            "length_controlled_win_rate": None,
            "lc_method": None,
            "reason": reason,
        }, None
    raw = win_rate(annotations)
    scores |= {
        "annotator": annotations[0]["annotator"],
        "win_rate": raw.win_rate,
        "wins": raw.n_wins,
        "losses": raw.n_losses,
        "draws": raw.n_draws,
        "unjudged": raw.n_missing,
        "baseline_mean_length": sum(len(row["output_1"]) for row in annotations) / len(annotations),
    }
    lc, drawn = length_controlled(annotations, calibration_of(evaluation))
    scores |= lc
    if evaluation.lc_method == "joint_difficulty":
        absent = ("length_controlled_win_rate", "lc_minus_wr")
        scores |= {f"{name}{error}": None for name in absent for error in ("", "_se")}
        scores |= {
            "lc_method": "joint_difficulty",
            "reason": "joint difficulty is fitted from all runs of a sweep",
        }
        drawn = None
    return scores | {"integrity": _integrity(annotations, outputs, baseline, scores, versions)}, drawn


def length_controlled(
    annotations: Records, calibration: Any
) -> tuple[dict[str, Any], PromptBootstrap | None]:
    """LC, its margin over WR, and the standard errors of all three by the prompt bootstrap, in percentage points.

    Returns:
        The scores, and the bootstrap of the one run "run"; None where the calibration does not know its prompts.
    """
    from adadpo.errors import CalibrationError
    from analysis.prompts.bootstrap import bootstrap_estimate

    reason = None
    try:
        bootstrap = _bootstrap(annotations, calibration)
    except CalibrationError as error:  # prompts that it does not know: WR is defined, LC is not
        reason, bootstrap = str(error), _bootstrap(annotations, None)
    scores: dict[str, Any] = {
        "lc_method": "no_difficulty" if calibration is None else calibration.method,
        "calibration": None if calibration is None else calibration.fingerprint,
    }
    judged = sum(row["preference"] is not None for row in annotations)
    win_rate_se = bootstrap_estimate(bootstrap, "run", "win_rate").standard_error
    # Every draw of a single preference is the same, which is no spread of 0.
    scores["win_rate_se"] = win_rate_se if judged > 1 else None
    for metric in ("length_controlled_win_rate", "lc_minus_wr"):
        estimate = bootstrap_estimate(bootstrap, "run", metric)
        scores[metric] = None if reason else estimate.estimate
        scores[f"{metric}_se"] = None if reason else estimate.standard_error
    said = reason or bootstrap.reasons.get("run") or estimate.reason
    return scores | {"reason": said}, None if reason else bootstrap


def _bootstrap(annotations: Records, calibration: Any) -> PromptBootstrap:
    import numpy as np

    from analysis.prompts.bootstrap import prompt_bootstrap

    rng = np.random.default_rng(BOOTSTRAP_SEED)
    return prompt_bootstrap({"run": annotations}, rng=rng, calibration=calibration, replicates=REPLICATES)


def calibration_of(evaluation: Evaluation) -> Any:
    """What length control needs to know beside the annotations; None where the formula needs nothing.

    Raises:
        FailureError: it cannot be had or does not fit the prompts.
    """
    from adadpo.errors import AssetError, CalibrationError
    from analysis.alpaca_eval.assets import CALIBRATION, PROMPTS, official_calibration, read_instructions
    from analysis.alpaca_eval.calibration import read_calibration

    if evaluation.lc_method != "length_controlled_v1":
        return None
    try:
        if evaluation.calibration is None:
            asset(CALIBRATION), asset(PROMPTS)
            return official_calibration(cache_folder())
        # Its rows are in the order of the whole prompt set.
        prompts = Path(evaluation.prompts_path) if evaluation.prompts_path else asset(PROMPTS)
        return read_calibration(Path(evaluation.calibration), instructions=read_instructions(prompts))
    except (AssetError, CalibrationError, OSError) as error:
        raise FailureError(f"calibration: {error}") from error


def quarantine_reasons(scores: Mapping[str, Any]) -> list[str]:
    """Why an evaluation must not count; empty when it does."""
    flags = scores.get("integrity", {}).get("flags", [])
    return [flag["message"] for flag in flags if flag["severity"] == "quarantine"]


def _integrity(
    annotations: Records,
    outputs: Records,
    baseline: Records,
    scores: Mapping[str, Any],
    versions: tuple[Mapping[str, str], Mapping[str, str]],
) -> dict[str, Any]:
    from analysis.alpaca_eval.integrity_gate import Expected, check_integrity

    found = check_integrity(
        annotations,
        expected=Expected(
            instructions=[row["instruction"] for row in outputs],
            baseline=baseline[0]["generator"],
            generator=outputs[0]["generator"],
            baseline_outputs={row["instruction"]: row["output"] for row in baseline},
            versions=versions[1],
        ),
        lc=scores["length_controlled_win_rate"],
        wr=scores["win_rate"],
        lc_method=scores["lc_method"],
        versions=versions[0],
    )
    return {**found.model_dump(mode="json"), "quarantined": found.quarantined}
