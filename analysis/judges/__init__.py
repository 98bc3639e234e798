"""Judges: they compare a candidate's answers with a baseline's and return AlpacaEval annotations.

A judge is a function of the form `Judge`; there is no base class and no registry to subclass. `factory.make_judge`
makes one from a configuration (`config.JudgeConfig`). What every judge must satisfy is in
`tests/judges/contract.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from adadpo.errors import JudgeError

Progress = Callable[[int, int], None]
"""Called with judgements done and judgements in all, from the thread that judges."""


@dataclass(frozen=True)
class Judgement:
    """What a judge found.

    Attributes:
        annotations: AlpacaEval's, one per prompt, in order; `preference` is in [1, 2], or None where judging
            failed. The same texts under the same judge give the same annotations again.
        summary: how the judging went, JSON-able: `judge`, `pairs`, `missing`; an API judge adds requests, cost,
            position bias and its own noise.
    """

    annotations: list[dict[str, Any]]
    summary: dict[str, Any]


def no_progress(done: int, total: int) -> None:
    """Report nothing."""


class Judge(Protocol):
    """Compares a candidate's answers with a baseline's, prompt by prompt."""

    def __call__(
        self,
        prompts: Sequence[Mapping[str, Any]],
        baseline: Sequence[str],
        candidate: Sequence[str],
        *,
        baseline_name: str,
        candidate_name: str,
        on_progress: Progress = no_progress,
    ) -> Judgement:
        """Judge every pair; a `JudgeError` says why it cannot be done."""
        ...


def check_answers(
    prompts: Sequence[Mapping[str, Any]], baseline: Sequence[str], candidate: Sequence[str]
) -> None:
    """Make sure that there is an instruction and both answers for every prompt.

    Raises:
        JudgeError: unequal numbers, an answer that is not text (a missing answer is an error, never a loss), or
            a prompt without an instruction.
    """
    for name, answers in (("baseline", baseline), ("candidate", candidate)):
        if len(answers) != len(prompts):
            raise JudgeError(f"{len(prompts)} prompts but {len(answers)} {name} answers")
        for number, answer in enumerate(answers):
            if not isinstance(answer, str):
                raise JudgeError(f"{name} answer {number} must be text, got {answer!r}")
    for number, prompt in enumerate(prompts):
        if not isinstance(prompt.get("instruction"), str) or not prompt["instruction"]:
            raise JudgeError(f"prompt {number} has no text instruction")


def summary_of(judge: str, annotations: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """The summary that every judge gives, and what this one adds."""
    missing = sum(row["preference"] is None for row in annotations)
    return {"judge": judge, "pairs": len(annotations), "missing": missing, **more}


def annotation(
    prompt: Mapping[str, Any],
    outputs: tuple[str, str],
    generators: tuple[str, str],
    annotator: str,
    preference: float | None,
    *,
    price: float | None = 0.0,
    seconds: float | None = 0.0,
    raw_completion: Any = None,
) -> dict[str, Any]:
    """One record with AlpacaEval's eleven keys; baseline first, `price` in dollars."""
    return {
        "instruction": prompt["instruction"],
        "output_1": outputs[0],
        "generator_1": generators[0],
        "dataset": prompt.get("dataset", ""),
        "output_2": outputs[1],
        "generator_2": generators[1],
        "annotator": annotator,
        "preference": preference,
        "price_per_example": price,
        "time_per_example": seconds,
        "raw_completion": raw_completion,
    }
