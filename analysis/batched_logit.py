"""Many logistic fits of the same rows under different weights at once: the inner loop of the prompt bootstrap."""

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
        shared: the other columns, the same in every fit [n, k - 1].
        targets: [n] in [0, 1].
        weights: [fits, n], >= 0.
        start: coefficients to start from [k].
        fixed: design [m, k], targets [m] and weight of rows that are in every fit; None: no such rows.

    Returns:
        Coefficients [fits, k]; NaN where the fit did not converge.
    """
    n_fits, k = len(weights), len(start)
    pairs = [(i, j) for i in range(k - 1) for j in range(i, k - 1)]
    products = np.column_stack([shared[:, i] * shared[:, j] for i, j in pairs])
    if fixed is not None:
        fixed_design, fixed_targets, fixed_weight = fixed
        fixed_columns = np.ascontiguousarray(fixed_design.T)
        outer = (fixed_design[:, :, None] * fixed_design[:, None, :]).reshape(len(fixed_design), k * k)
    coefficients = np.full((n_fits, k), np.nan)
    active = np.arange(n_fits)
    b = np.tile(start, (n_fits, 1))
    shared_columns = np.ascontiguousarray(shared.T)
    for _ in range(MAX_ITERATIONS):
        p = sigmoid(b[:, :1] * x + b[:, 1:] @ shared_columns)
        w = weights * p
        residual = weights * targets - w
        w -= w * p
        wx = w * x
        gradient = np.empty((len(b), k))
        gradient[:, 0] = np.einsum("rn,rn->r", residual, x)
        gradient[:, 1:] = residual @ shared
        information = np.empty((len(b), k, k))
        information[:, 0, 0] = np.einsum("rn,rn->r", wx, x)
        information[:, 0, 1:] = information[:, 1:, 0] = wx @ shared
        for (i, j), sums in zip(pairs, (w @ products).T, strict=True):
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
        b, active, x, weights = b[~done], active[~done], x[sound][~done], weights[sound][~done]
        if not len(active):
            break
    return coefficients
