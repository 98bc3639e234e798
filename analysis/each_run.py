"""Length-controlled win rates of many runs at once, each under weights of its own prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.batched_logit import fit_weighted_logits
from analysis.calibration import GAMED_WEIGHT, Calibration
from analysis.length_control import MAX_LENGTH_EFFECT, LcData, fit_length_control, is_limited
from analysis.logit import MAX_LOG_ODDS, Array, sigmoid

# Numbers in one array of a stack of fits: few enough to stay in the processor's cache.
CELLS = 100_000


def length_controlled_of_each(
    data: Sequence[LcData], counts: Sequence[Array], calibration: Calibration | None
) -> Array:
    """What `fit_length_control` gives for each run and its counts, without the price of a call for each.

    Args:
        data: of each run; one may stand there many times.
        counts: how often each annotation of that run counts [n], integers >= 0.
        calibration: as for `fit_length_control`, the same for all.

    Returns:
        LC in percent [len(data)]; NaN: undefined.
    """
    values = np.full(len(data), np.nan)
    rows = max(1, CELLS // max((len(one.targets) for one in data), default=1))
    for at in range(0, len(data), rows):
        block = slice(at, at + rows)
        values[block] = _stack(data[block], counts[block], calibration)
    return values


def _stack(data: Sequence[LcData], counts: Sequence[Array], calibration: Calibration | None) -> Array:
    shape = (len(data), max(len(one.targets) for one in data))
    # Behind the end of a shorter run everything is 0, and weighs nothing.
    used, delta, targets = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    shared = np.ones((*shape, 1 if data[0].difficulty is None else 2))  # the model's column is the last
    for row, (one, count) in enumerate(zip(data, counts, strict=True)):
        n = len(count)
        used[row, :n], targets[row, :n] = count, one.targets
        delta[row, :n] = one.delta_length
        if one.difficulty is not None:
            shared[row, :n, 0], shared[row, n:, 0] = one.difficulty, 0.0
    judged = used * ~np.isnan(targets)
    total = used.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # of no prompt, or one
        mean = (used * delta).sum(axis=1, keepdims=True) / total[:, None]
        sd = np.sqrt((used * (delta - mean) ** 2).sum(axis=1) / (total - 1))
    k = 1 + shared.shape[2]
    # What varies by nothing but rounding is for the careful fit below; so is all that fails here.
    usual = (sd > 1e-9 * np.abs(delta).max(axis=1)) & (judged.sum(axis=1) > k)
    fixed = None
    if calibration is not None and len(calibration.gamed_targets):
        fixed = (calibration.gamed_design, calibration.gamed_targets, GAMED_WEIGHT)
    coefficients = np.full((len(data), k), np.nan)
    coefficients[usual] = fit_weighted_logits(
        np.tanh(delta[usual] / sd[usual, None]),
        shared[usual],
        np.nan_to_num(targets[usual]),
        judged[usual],
        np.zeros(k),
        fixed,
    )
    predicted = sigmoid(np.einsum("rk,rnk->rn", coefficients[:, 1:], shared))
    values = 100 * (used * predicted).sum(axis=1) / np.maximum(total, 1)
    if is_limited(calibration):
        values[np.abs(coefficients[:, 0]) > MAX_LENGTH_EFFECT] = np.nan
    reach = np.abs(coefficients[:, 0]) + np.einsum(
        "rk,rk->r", np.abs(coefficients[:, 1:]), np.abs(shared).max(axis=1)
    )
    for row in np.flatnonzero(~(reach <= MAX_LOG_ODDS)).tolist():
        careful = fit_length_control(data[row], calibration, counts[row]).length_controlled_win_rate
        values[row] = np.nan if careful is None else careful
    return np.asarray(values)
