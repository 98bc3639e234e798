"""What stand-alone scoring comes to: one annotation file in numbers, and two of them compared over their prompts.

Undefined is None beside a reason. Win rates, differences and standard errors are in percentage points.
"""

from __future__ import annotations

from typing import Literal

from analysis.integrity import Integrity
from analysis.paired_prompts import PromptCounts
from analysis.results import Frozen


class Score(Frozen):
    """One model against one baseline under one judge."""

    source: str  # the file
    sha256: str  # of its content
    generator: str | None  # None: the file holds none or several
    baseline: str | None
    judge: str | None
    n: int  # prompts with a preference
    n_missing: int  # records without one
    wins: int
    losses: int
    draws: int
    win_rate: float | None
    win_rate_se: float | None  # 100 sd / sqrt(n)
    length_controlled_win_rate: float | None
    length_controlled_win_rate_se: float | None  # of the prompt bootstrap
    length_controlled_win_rate_interval: tuple[float, float] | None  # 95%, percentiles
    lc_method: str  # unlike methods are never compared
    calibration: str | None  # its fingerprint; nor are unlike calibrations
    reason: str | None  # why a win rate, or its standard error, is None
    mean_length: float | None  # characters
    baseline_mean_length: float | None
    integrity: Integrity


class Difference(Frozen):
    """A minus B on one metric over the same prompts, by the paired prompt bootstrap."""

    metric: Literal["length_controlled_win_rate", "win_rate"]
    label: str
    a: float | None
    b: float | None
    estimate: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    confidence: float
    p_value: float | None  # two-sided
    undefined: int  # draws without a value
    reason: str | None  # why there is no estimate, no interval or no p


class FileComparison(Frozen):
    """A and B compared, prompt by prompt."""

    a: Score  # over the compared prompts; its integrity is the whole file's
    b: Score
    differences: list[Difference]  # LC, then WR
    counts: PromptCounts
    only_a: int  # prompts of A alone, left out at the user's request
    only_b: int
    unjudged: int  # common prompts without a preference on one side or both
    replicates: int
    seed: int

    @property
    def headline(self) -> Difference:
        """LC where it is defined for both, else WR."""
        return next((each for each in self.differences if each.estimate is not None), self.differences[-1])
