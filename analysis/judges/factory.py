"""From a judge's configuration to the judge, and to what names it in an evaluation's id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, assert_never

from adadpo.errors import JudgeError
from analysis.judges import Judge, Judgement, Progress, no_progress, summary_of
from analysis.judges.config import AlpacaEval, Import, RewardModel, Rubric
from analysis.judges.endpoint import Waits
from analysis.judges.rewards import Scorer

Config = Rubric | AlpacaEval | RewardModel | Import


def make_judge(
    config: Config,
    *,
    cache: Path,
    account: str = "judge",
    load_reward_model: Callable[[RewardModel], Scorer] | None = None,
    environment: Mapping[str, str] | None = None,
    waits: Waits | None = None,
) -> Judge:
    """The judge of a configuration; nothing is loaded or asked before it is called.

    Args:
        config: from `config.judge_config` or a sweep.
        cache: a folder; an API judge keeps its answers and ledgers in it, under `judges`, for all runs.
        account: the ledger that `max_cost` caps, a plain name such as the sweep's.
        load_reward_model: gives a reward model's scorer (`adadpo.models.reward_model`; here no torch is imported).
        environment: where an API's key is; None: the process's.
        waits: of an API judge, between attempts.

    Raises:
        JudgeError: a reward model without a way to load one.
    """
    match config:
        case Rubric():
            return _rubric
        case AlpacaEval():
            from analysis.judges.alpaca import alpaca_eval_judge

            return alpaca_eval_judge(
                config, folder=cache / "judges", account=account, environment=environment, waits=waits
            )
        case RewardModel():
            from analysis.judges.rewards import reward_model_judge

            if load_reward_model is None:
                raise JudgeError(
                    "the reward_model judge needs the training packages: pip install 'adadpo[train]'"
                )
            load = load_reward_model
            return reward_model_judge(lambda: load(config))
        case Import():
            from analysis.judges.imported import import_judge

            return import_judge(config)
        case _:
            assert_never(config)


def judge_identity(config: Config, model_identity: Callable[[str], str] | None = None) -> dict[str, Any]:
    """What decides a judge's preferences, JSON-able: for an evaluation's id. No address, price, path or key.

    Args:
        config: the judge.
        model_identity: of a reward model's name, such as `resolve_model(name).identity`.

    Raises:
        JudgeError: a configuration that cannot be read, files that are not there, a package that is missing.
    """
    match config:
        case Rubric():
            from analysis.judges.rubric import ANNOTATOR

            return {"kind": "rubric", "version": ANNOTATOR}
        case AlpacaEval():
            from analysis.judges.alpaca import SEED
            from analysis.judges.annotators import package_version, read_annotators

            annotators = read_annotators(config.config)
            return {
                "kind": "alpaca_eval",
                "annotators": annotators.digest,
                "models": annotators.models(config.model),
                "alpaca_eval": package_version(),
                "seed": SEED,
                "both_orders": config.both_orders,
                "repeats": config.repeats,
            }
        case RewardModel():
            if model_identity is None:
                raise JudgeError("the identity of a reward model needs its resolver")
            return {
                "kind": "reward_model",
                "model": model_identity(config.model),
                "max_length": config.max_length,
                "precision": config.precision,
            }
        case Import():
            from analysis.judges.imported import import_digest

            return {"kind": "import", "content": import_digest(Path(config.path).expanduser())}
        case _:
            assert_never(config)


def _rubric(
    prompts: Any,
    baseline: Any,
    candidate: Any,
    *,
    baseline_name: str,
    candidate_name: str,
    on_progress: Progress = no_progress,
) -> Judgement:
    from analysis.judges.rubric import rubric

    annotations = rubric(
        prompts, baseline, candidate, baseline_name=baseline_name, candidate_name=candidate_name
    )
    on_progress(len(annotations), len(annotations))
    return Judgement(annotations, summary_of("rubric", annotations))
