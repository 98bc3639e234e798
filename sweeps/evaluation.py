"""What an evaluation does beside generating: its prompts, judging, scores. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeps.errors import FailureError
from sweeps.prompts import prompts_identity, read_prompts
from sweeps.resolve import Evaluation


def load_prompts(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The prompts, from their file or AlpacaEval's on the hub.

    Raises:
        FailureError: they cannot be had.
    """
    if evaluation.prompts_path is not None:
        prompts = read_prompts(Path(evaluation.prompts_path), evaluation.limit)
        if prompts_identity(prompts) != evaluation.prompts_identity:
            raise FailureError(f"{evaluation.prompts_path} changed since the runs were planned; launch again")
        return prompts
    from huggingface_hub import hf_hub_download

    try:
        file = hf_hub_download("tatsu-lab/alpaca_eval", "alpaca_eval.json", repo_type="dataset")
    except Exception as error:  # the hub client raises a dozen unrelated types
        raise FailureError(
            f"the alpaca_eval prompts cannot be fetched from the hub ({type(error).__name__}); "
            "on an offline machine give evaluate.prompts a JSON file with the same content"
        ) from error
    return read_prompts(Path(file), evaluation.limit)


def judge_outputs(
    judge: str,
    prompts: Sequence[Mapping[str, Any]],
    baseline: Sequence[Mapping[str, Any]],
    outputs: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """AlpacaEval annotations of a policy's responses; none for judge "none"."""
    if judge == "none":
        return []
    from analysis.judges.rubric import rubric

    return rubric(
        prompts,
        [row["output"] for row in baseline],
        [row["output"] for row in outputs],
        baseline_name=baseline[0]["generator"],
        candidate_name=outputs[0]["generator"],
    )


def score_annotations(
    annotations: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What an evaluation comes to; undefined is None, with its reason."""
    from analysis import length_controlled_win_rate, win_rate

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
        }
    raw = win_rate(annotations)
    controlled = length_controlled_win_rate(annotations)
    lc = controlled.length_controlled_win_rate
    return scores | {
        "win_rate": raw.win_rate,
        "win_rate_se": raw.standard_error,
        "wins": raw.n_wins,
        "losses": raw.n_losses,
        "draws": raw.n_draws,
        "length_controlled_win_rate": lc,
        "lc_method": controlled.lc_method,
        "reason": controlled.reason,
        "lc_minus_wr": None if lc is None else lc - raw.win_rate,
        "baseline_mean_length": sum(len(row["output_1"]) for row in annotations) / len(annotations),
    }
