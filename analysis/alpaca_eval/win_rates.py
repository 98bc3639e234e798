"""AlpacaEval's raw win rate."""

from __future__ import annotations

import numpy as np

from analysis.alpaca_eval.annotations import DRAW, Preferences, Records, preferences_of
from analysis.results.model import Frozen


class WinRate(Frozen):
    """Share of prompts on which the judge prefers the candidate, in percent."""

    win_rate: float | None  # None when n == 0
    standard_error: float | None  # percentage points; None when n < 2
    n: int  # prompts with a preference
    n_wins: int
    n_losses: int
    n_draws: int
    n_missing: int  # judgements without a preference; they are in no other count


def win_rate(annotations: Records | Preferences) -> WinRate:
    """Win rate of `output_2` over `output_1`: WR = 100 mean(preference - 1), SE = 100 sd / sqrt(n), ddof = 1.

    Args:
        annotations: AlpacaEval annotations (mappings with a `preference`, `Annotation`s or a DataFrame), or
            the preferences themselves, in [1, 2]; 0 and 1.5 are draws, None and NaN are counted as missing.

    Returns:
        Win rate and standard error in percentage points with the counts behind them. The standard error is over
        prompts: it says nothing about the variation between seeds.

    Raises:
        AnnotationError: a preference outside [1, 2] or an instruction that occurs twice.

    Source: alpaca_eval `metrics/helpers.py::AbsoluteScoringRule.describe_head2head`; equal to the published
    leaderboard.
    """
    given = preferences_of(annotations)
    scores = np.array([p for p in given if p is not None], dtype=np.float64) - 1
    n = len(scores)
    return WinRate(
        win_rate=100 * float(scores.mean()) if n else None,
        standard_error=100 * float(scores.std(ddof=1)) / n**0.5 if n > 1 else None,
        n=n,
        n_wins=int((scores > DRAW - 1).sum()),
        n_losses=int((scores < DRAW - 1).sum()),
        n_draws=int((scores == DRAW - 1).sum()),
        n_missing=len(given) - n,
    )
