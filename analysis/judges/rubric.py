"""The `rubric` judge: prefers the answer that meets more of an instruction's verifiable constraints.

It costs nothing, needs no network and no model, and gives the same annotations every time. It judges what
`verifier` can verify and nothing else: not truth, not helpfulness, not style.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.judges.verifier import score

ANNOTATOR = "rubric-v1"
"""Written into every annotation. Raise the version when the same texts would get other preferences."""


class JudgeError(ValueError):
    """Prompts and answers that cannot be judged; the message names what is wrong and where."""


def rubric(
    prompts: Sequence[Mapping[str, Any]],
    baseline: Sequence[str],
    candidate: Sequence[str],
    *,
    baseline_name: str,
    candidate_name: str,
) -> list[dict[str, Any]]:
    """Compare two sets of answers to the same prompts.

    Args:
        prompts: `instruction` (text), `constraints` (see `verifier`), optional `keywords` and `dataset`.
        baseline: one answer per prompt, in order.
        candidate: one answer per prompt, in order.
        baseline_name: becomes `generator_1`.
        candidate_name: becomes `generator_2`.

    Returns:
        AlpacaEval annotations, one per prompt, in order. `preference` is 1.5 + (score of the candidate -
        score of the baseline) / 2: in [1, 2], 1.5 is a draw, 2 says that the candidate met everything and
        the baseline nothing.

    Raises:
        JudgeError: unequal numbers of prompts and answers, a prompt without instruction or constraints, or an
            answer that is not text (a missing answer is an error, never a loss).
        ConstraintError: a constraint that is not valid.
    """
    for name, answers in (("baseline", baseline), ("candidate", candidate)):
        if len(answers) != len(prompts):
            raise JudgeError(f"{len(prompts)} prompts but {len(answers)} {name} answers")
        for number, answer in enumerate(answers):
            if not isinstance(answer, str):
                raise JudgeError(f"{name} answer {number} must be text, got {answer!r}")
    annotations: list[dict[str, Any]] = []
    for number, (prompt, first, second) in enumerate(zip(prompts, baseline, candidate, strict=True)):
        for key in ("instruction", "constraints"):
            if not prompt.get(key):
                raise JudgeError(f"prompt {number} has no {key}: the rubric judge needs them")
        keywords = prompt.get("keywords", ())
        gain = score(second, prompt["constraints"], keywords) - score(first, prompt["constraints"], keywords)
        annotations.append(
            {
                "instruction": prompt["instruction"],
                "output_1": first,
                "generator_1": baseline_name,
                "dataset": prompt.get("dataset", ""),
                "output_2": second,
                "generator_2": candidate_name,
                "annotator": ANNOTATOR,
                "preference": 1.5 + gain / 2,
                "price_per_example": 0.0,
                "time_per_example": 0.0,
                "raw_completion": None,
            }
        )
    return annotations
