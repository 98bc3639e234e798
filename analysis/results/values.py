"""What every part of the results is made of; undefined is `None` beside a reason, never 0."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Alternative = Literal["two-sided", "greater", "less"]
ZeroMethod = Literal["pratt", "wilcox", "zsplit"]


class State(StrEnum):
    """Where a run stands; the order is the order in which tables show states."""

    DONE = "done"
    """Trained and evaluated: its scores count."""
    QUARANTINED = "quarantined"
    """Evaluated, but the evaluation failed its integrity check: shown and excluded."""
    DIVERGED = "diverged"
    """Training reached a loss or gradient that is not a finite number: an outcome, with no score."""
    FAILED = "failed"
    """An error ended it, and its automatic retries are used up."""
    PRUNED = "pruned"
    """A search gave its setting up after fewer seeds and did not run it."""
    CANCELLED = "cancelled"
    """A user cancelled it; `adadpo retry` brings it back."""
    RUNNING = "running"
    """A worker holds its lease."""
    UNKNOWN = "unknown"
    """Its worker is silent and may still run: on another host, or out of sight."""
    WAITING = "waiting"
    """No worker has it."""


Value = float | int | str | bool | None


class Frozen(BaseModel):
    """A value: immutable, and every unknown key is an error."""

    # Built at first use: most commands import these models and use few.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, use_attribute_docstrings=True)

    def model_post_init(self, context: Any, /) -> None:
        """Let values that were given the same fields share the set of their names.

        It takes 728 bytes beyond 4 names, more than the rest of a value, and results hold hundreds of thousands.
        """
        given = self.__pydantic_fields_set__
        object.__setattr__(self, "__pydantic_fields_set__", _GIVEN.setdefault(frozenset(given), given))


_GIVEN: dict[frozenset[str], set[str]] = {}


class SignedRank(Frozen):
    """Wilcoxon's signed-rank test, exact up to 2,000 differences; `method` says how its p was found."""

    n: int
    """Differences tested, zeros included."""
    zeros: int
    """Differences that are 0."""
    ties: int
    """Non-zero differences that share their absolute value with another."""
    w_plus: float
    """Rank sum of the differences above 0."""
    w_minus: float
    """Rank sum of the differences below 0."""
    p_value: float
    smallest_p: float
    """The smallest p this n can reach with this alternative."""
    alternative: Alternative
    """Direction that the test looks for."""
    zero_method: ZeroMethod
    """Treatment of differences that are 0."""
    method: str
    """Of the null distribution: "exact (dynamic programming over mid-ranks)", beyond 2,000 "saddlepoint …"."""


class Interval(Frozen):
    """A point estimate with a confidence interval; `low` and `high` are None where `reason` says why."""

    estimate: float
    low: float | None
    high: float | None
    confidence: float
    """The nominal level."""
    achieved: float | None
    """The level the interval really has."""
    method: str
    """How it was computed."""
    reason: str | None = None
    """Why there is no interval."""
