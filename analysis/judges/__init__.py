"""Judges: they compare a candidate's answers with a baseline's and return AlpacaEval annotations.

A judge is a function of the form `Judge`; there is no base class and no registry to subclass. What every
judge must satisfy is in `tests/judges/contract.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


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
    ) -> list[dict[str, Any]]:
        """One annotation per prompt, in order; `preference` is in [1, 2], or None where judging failed."""
        ...
