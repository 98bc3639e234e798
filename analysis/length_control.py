"""AlpacaEval's length-controlled win rate: what the win rate would be at equal lengths."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from analysis.annotations import Records, preferences_of, records
from analysis.logit import fit_fractional_logit, sigmoid
from analysis.results import Frozen

LcMethod = Literal["no_difficulty"]

# tanh keeps the length column within [-1, 1], so beyond this (odds of 2e4 to 1) preferences are separated by
# length up to the judge's last digits, and x1 = 0 is an extrapolation. Over 40 leaderboard models in
# shared/alpaca_eval the largest is 4.4, but for the gamed one: 17.4, where LC would be 40 against the
# official 12.
MAX_LENGTH_EFFECT = 10.0


class LengthControlled(Frozen):
    """Length-controlled win rate in percent; None beside the reason when it is undefined."""

    length_controlled_win_rate: float | None
    lc_method: str  # unlike methods are never compared with one another
    reason: str | None
    n: int  # prompts with a preference
    coefficients: dict[str, float]  # log odds: "length" (per unit of tanh) and "model"; empty when undefined


def length_controlled_win_rate(
    annotations: Records, *, lc_method: LcMethod = "no_difficulty"
) -> LengthControlled:
    """Win rate of `output_2` with the judge's taste for length removed.

    `no_difficulty`: logistic regression of preference - 1 on x1 = tanh(dlen / sd(dlen)) and a constant,
    without penalty; dlen = characters of `output_1` minus `output_2`, sd with ddof = 1. LC = 100
    sigmoid(b_model): the prediction at x1 = 0. It needs no calibration file, so it works for any prompts and
    judge, and is not the figure of the AlpacaEval leaderboard.

    Where all length differences are equal, sd(dlen) = 0 and there is no LC. That includes answers that are
    all as long as the baseline's: there the win rate already is at equal lengths, and it is not reported a
    second time under another name.

    Args:
        annotations: AlpacaEval annotations with `output_1`, `output_2` and `preference` (mappings,
            `Annotation`s or a DataFrame). Records without a preference are left out before sd(dlen) is taken.
        lc_method: which formula.

    Returns:
        The length-controlled win rate in percent, or None and why; never the raw win rate in its place.

    Raises:
        AnnotationError: a missing key, a preference outside [1, 2] or an instruction that occurs twice.
        ValueError: an unknown `lc_method`.

    Source: Dubois et al. (2024), arXiv:2404.04475, and alpaca_eval `metrics/glm_winrate.py`, without the
    instruction-difficulty term and the calibration rows.
    """
    if lc_method not in get_args(LcMethod):
        raise ValueError(f"lc_method must be one of {', '.join(get_args(LcMethod))}, got {lc_method!r}")
    rows = records(annotations, required=("output_1", "output_2", "preference"))
    judged = [(row, p) for row, p in zip(rows, preferences_of(rows), strict=True) if p is not None]
    n = len(judged)

    def undefined(reason: str) -> LengthControlled:
        return LengthControlled(
            length_controlled_win_rate=None, lc_method=lc_method, reason=reason, n=n, coefficients={}
        )

    if n < 3:
        return undefined(f"{n} preferences are too few for the 2 coefficients of the model")
    y = np.array([p for _, p in judged]) - 1
    dlen = np.array([len(row["output_1"]) - len(row["output_2"]) for row, _ in judged], dtype=np.float64)
    if (dlen == dlen[0]).all():
        return undefined(
            f"all {n} length differences are {dlen[0]:g} characters (sd 0): the effect of length cannot be "
            "separated from the model's"
        )
    if (y == y[0]).all() and y[0] in (0, 1):
        return undefined(f"every preference is {y[0] + 1:g}: the model effect is not finite")
    fit = fit_fractional_logit(np.column_stack([np.tanh(dlen / dlen.std(ddof=1)), np.ones(n)]), y)
    if fit.coefficients is None:
        return undefined(f"the logistic fit failed: {fit.reason}")
    length, model = (float(b) for b in fit.coefficients)
    if abs(length) > MAX_LENGTH_EFFECT:
        return undefined(
            f"preferences are all but separated by length: its effect is {length:.3g} log odds, "
            f"beyond {MAX_LENGTH_EFFECT:g}"
        )
    return LengthControlled(
        length_controlled_win_rate=100 * float(sigmoid(np.array(model))),
        lc_method=lc_method,
        reason=None,
        n=n,
        coefficients={"length": length, "model": model},
    )
