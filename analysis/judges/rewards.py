"""The `reward_model` judge: preferences from the scores that a reward model gives to single answers.

preference = 1 + sigmoid(score of the candidate - score of the baseline), the Bradley-Terry probability that the
candidate's answer is preferred, which is what such models are trained on (Ouyang et al. 2022, arXiv:2203.02155,
equation 1). The model itself is `adadpo.models.reward_model`'s: here no torch is imported.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from adadpo.errors import JudgeError
from analysis.judges import Judge, Judgement, Progress, annotation, check_answers, no_progress, summary_of

Message = Mapping[str, str]


class Scored(NamedTuple):
    """Rewards, in order, and which of the texts were too long for the model and cut."""

    rewards: list[float]
    truncated: list[bool]


class Scorer(Protocol):
    """Scores answers; `adadpo.models.reward_model.RewardScorer` is one."""

    @property
    def name(self) -> str:
        """The model's, for annotations."""
        ...

    def __call__(
        self, prompts: Sequence[Sequence[Message]], answers: Sequence[str], on_progress: Progress
    ) -> tuple[list[float], list[bool]]:
        """Rewards and truncation flags, one per answer, in order."""
        ...


def reward_model_judge(load: Callable[[], Scorer]) -> Judge:
    """The judge of a reward model.

    Args:
        load: gives the model; called once, when the first pair is judged.
    """
    return partial(_judge, _Memory(load))


def bradley_terry(gain: float) -> float:
    """Sigmoid of a difference of rewards, without overflow."""
    return 1 / (1 + math.exp(-gain)) if gain >= 0 else math.exp(gain) / (1 + math.exp(gain))


class _Memory:
    """The model, and the baseline's scores: all runs of a sweep share the baseline."""

    def __init__(self, load: Callable[[], Scorer]) -> None:
        self._load = load
        self._scorer: Scorer | None = None
        self._known: tuple[str, Scored] | None = None

    @property
    def scorer(self) -> Scorer:
        if self._scorer is None:
            self._scorer = self._load()
        return self._scorer

    def baseline(
        self, prompts: Sequence[Sequence[Message]], answers: Sequence[str], on_progress: Progress
    ) -> Scored:
        text = json.dumps([prompts, answers], ensure_ascii=False)
        digest = hashlib.sha256(text.encode()).hexdigest()
        if self._known is None or self._known[0] != digest:
            self._known = (digest, Scored(*self.scorer(prompts, answers, on_progress)))
        return self._known[1]


def _judge(
    memory: _Memory,
    prompts: Sequence[Mapping[str, Any]],
    baseline: Sequence[str],
    candidate: Sequence[str],
    *,
    baseline_name: str,
    candidate_name: str,
    on_progress: Progress = no_progress,
) -> Judgement:
    check_answers(prompts, baseline, candidate)
    if not prompts:
        return Judgement([], summary_of("reward_model", []))
    number = len(prompts)
    conversations = [_conversation(prompt) for prompt in prompts]
    first = memory.baseline(conversations, baseline, lambda done, _: on_progress(done, 2 * number))
    second = Scored(
        *memory.scorer(conversations, candidate, lambda done, _: on_progress(number + done, 2 * number))
    )
    annotations = [
        annotation(
            prompt,
            (baseline[pair], candidate[pair]),
            (baseline_name, candidate_name),
            memory.scorer.name,
            _preference(first.rewards[pair], second.rewards[pair]),
            raw_completion={"reward_1": first.rewards[pair], "reward_2": second.rewards[pair]},
        )
        for pair, prompt in enumerate(prompts)
    ]
    cut = [one or other for one, other in zip(first.truncated, second.truncated, strict=True)]
    return Judgement(annotations, summary_of("reward_model", annotations, truncated_pairs=sum(cut)))


def _preference(first: float, second: float) -> float | None:
    gain = second - first
    return 1 + bradley_terry(gain) if math.isfinite(gain) else None


def _conversation(prompt: Mapping[str, Any]) -> list[Message]:
    """What the answer answers: the prompt's own messages, else its instruction as the user's turn."""
    given = prompt.get("prompt")
    if isinstance(given, list):
        return given
    if given is not None and not isinstance(given, str):
        raise JudgeError(f"a prompt must be text or messages, got {type(given).__name__}")
    return [{"role": "user", "content": given or prompt["instruction"]}]
