"""What the tests of API judges share: pairs, a configuration, a judge with short waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analysis.judges import Judge, Judgement
from analysis.judges.config import AlpacaEval
from analysis.judges.endpoint import Waits
from analysis.judges.factory import make_judge

WAITS = Waits(first=0.01, longest=1.0)
OFFICIAL = "weighted_alpaca_eval_gpt4_turbo"


def prompts_of(number: int) -> list[dict[str, Any]]:
    return [{"instruction": f"Question number {i}?", "dataset": "made"} for i in range(number)]


def answers_of(number: int, words: int = 3) -> list[str]:
    """Answers of different lengths, so that preferences differ."""
    return [f"Answer {i}" + " and more" * ((i * words) % 7) for i in range(number)]


def api_config(url: str, **changes: Any) -> AlpacaEval:
    given = {"kind": "alpaca_eval", "config": OFFICIAL, "base_url": url, "timeout": 20, "attempts": 4}
    return AlpacaEval.model_validate(given | changes)


def api_judge(url: str, cache: Path, account: str = "judge", **changes: Any) -> Judge:
    return make_judge(api_config(url, **changes), cache=cache, account=account, waits=WAITS)


def judge_pairs(judge: Judge, number: int) -> Judgement:
    return judge(
        prompts_of(number),
        answers_of(number, 5),
        answers_of(number, 3),
        baseline_name="base",
        candidate_name="cand",
    )
