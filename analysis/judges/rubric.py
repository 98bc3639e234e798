"""The `rubric` judge: prefers the answer that meets more of an instruction's verifiable constraints.

It costs nothing, needs no network and no model, and gives the same annotations every time. It judges what
`verifier` can verify and nothing else: not truth, not helpfulness, not style.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adadpo.errors import JudgeError
from analysis.judges import annotation, check_answers
from analysis.judges.verifier import score

__all__ = ["ANNOTATOR", "JudgeError", "rubric"]

ANNOTATOR = "rubric-v1"
"""Written into every annotation. Raise the version when the same texts would get other preferences."""


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
    check_answers(prompts, baseline, candidate)
    annotations: list[dict[str, Any]] = []
    for number, (prompt, first, second) in enumerate(zip(prompts, baseline, candidate, strict=True)):
        if not prompt.get("constraints"):
            raise JudgeError(f"prompt {number} has no constraints: the rubric judge needs them")
        keywords = prompt.get("keywords", ())
        gain = score(second, prompt["constraints"], keywords) - score(first, prompt["constraints"], keywords)
        names = (baseline_name, candidate_name)
        annotations.append(annotation(prompt, (first, second), names, ANNOTATOR, 1.5 + gain / 2))
    return annotations
