"""Many logistic fits at once, of the same rows under different weights or each of its own rows."""

from __future__ import annotations

import numpy as np

from analysis.logit import Array, sigmoid

MAX_ITERATIONS = 15
TOLERANCE = 1e-8  # as fit_fractional_logit: Newton's error is about the square of its last step
# Determinant of the information scaled to a unit diagonal, below which it counts as singular.
SINGULAR = 1e-10


def fit_weighted_logits(
    x: Array,
    shared: Array,
    targets: Array,
    weights: Array,
    start: Array,
    fixed: tuple[Array, Array, float] | None = None,
) -> Array:
    """Unpenalised logistic regressions with fractional targets, one for each row of weights.

    Plain Newton steps from a common start, without the careful search of `fit_fractional_logit`: what does not
    converge is left to that function.

    Args:
        x: the first column of each design [fits, n].
        shared: the other columns, the same in every fit [n, k - 1], or each fit's own [fits, n, k - 1].
        targets: in [0, 1], [n] or each fit's own [fits, n].
        weights: [fits, n], >= 0.
        start: coefficients to start from [k].
        fixed: design [m, k], targets [m] and weight of rows that are in every fit; None: no such rows.

    Returns:
        Coefficients [fits, k]; NaN where the fit did not converge.
    """
    n_fits, k = len(weights), len(start)
    pairs = [(i, j) for i in range(k - 1) for j in range(i, k - 1)]
    products = np.stack([shared[..., i] * shared[..., j] for i, j in pairs], axis=-1)
    if fixed is not None:
        fixed_design, fixed_targets, fixed_weight = fixed
        fixed_columns = np.ascontiguousarray(fixed_design.T)
        outer = (fixed_design[:, :, None] * fixed_design[:, None, :]).reshape(len(fixed_design), k * k)
    coefficients = np.full((n_fits, k), np.nan)
    active = np.arange(n_fits)
    b = np.tile(start, (n_fits, 1))
    shared_columns = np.ascontiguousarray(shared.swapaxes(-1, -2))
    for _ in range(MAX_ITERATIONS):
        p = sigmoid(b[:, :1] * x + _times(b[:, 1:], shared_columns))
        w = weights * p
        residual = weights * targets - w
        w -= w * p
        wx = w * x
        gradient = np.empty((len(b), k))
        gradient[:, 0] = np.einsum("rn,rn->r", residual, x)
        gradient[:, 1:] = _times(residual, shared)
        information = np.empty((len(b), k, k))
        information[:, 0, 0] = np.einsum("rn,rn->r", wx, x)
        information[:, 0, 1:] = information[:, 1:, 0] = _times(wx, shared)
        for (i, j), sums in zip(pairs, _times(w, products).T, strict=True):
            information[:, 1 + i, 1 + j] = information[:, 1 + j, 1 + i] = sums
        if fixed is not None:
            p = sigmoid(b @ fixed_columns)
            gradient += fixed_weight * ((fixed_targets - p) @ fixed_design)
            information += fixed_weight * ((p * (1 - p)) @ outer).reshape(-1, k, k)
        scale = np.sqrt(np.einsum("rkk->rk", information))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            relative = information / (scale[:, :, None] * scale[:, None, :])
            sound = np.isfinite(relative).all(axis=(1, 2))
            sound[sound] = np.linalg.det(relative[sound]) > SINGULAR
        step = np.linalg.solve(information[sound], gradient[sound][:, :, None])[:, :, 0]
        b = b[sound] + step
        active = active[sound]
        done = np.abs(step).max(axis=1) <= TOLERANCE * (1 + np.abs(b).max(axis=1))
        coefficients[active[done]] = b[done]
        b, active = b[~done], active[~done]
        if not len(active):
            break
        left = np.flatnonzero(sound)[~done]
        x, weights = x[left], weights[left]
        if shared.ndim == 3:
            shared, shared_columns, products = shared[left], shared_columns[left], products[left]
        if targets.ndim == 2:
            targets = targets[left]
    return coefficients


def _times(rows: Array, table: Array) -> Array:
    """Each row [fits, n] times one table [n, k], or times its own [fits, n, k]: [fits, k]."""
    return rows @ table if table.ndim == 2 else np.matmul(rows[:, None], table)[:, 0]
