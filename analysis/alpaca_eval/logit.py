"""Logistic regression with fractional targets, unpenalised, by Newton's method (IRLS)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Beyond this log-odds a probability differs from 0 or 1 by less than float64 resolves: the maximum is at
# infinity.
MAX_LOG_ODDS = 36.0


@dataclass(frozen=True, slots=True)
class LogitFit:
    """The fit, or why there is none."""

    coefficients: Array | None  # [k]; None when the likelihood has no finite, unique maximum
    iterations: int
    reason: str | None  # why `coefficients` is None


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow; any shape."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)), dtype=np.float64)


def fit_fractional_logit(
    X: Array,
    y: Array,
    weights: Array | None = None,
    *,
    max_iterations: int = 100,
    tolerance: float = 1e-8,
) -> LogitFit:
    """Maximise sum_i w_i [y_i log p_i + (1 - y_i) log(1 - p_i)] with p = sigmoid(X b); there is no intercept.

    Args:
        X: design matrix [n, k], finite.
        y: targets [n] in [0, 1]; fractions are allowed.
        weights: weights [n], positive; None is 1 for each.
        max_iterations: Newton steps before giving up.
        tolerance: converged when no coefficient moves by more than this, relative to 1 + max |b|. Newton's error
            is about the square of its last step.

    Returns:
        The coefficients [k]; or None with the reason when columns are collinear, when the targets are
        separated (the maximum is at infinity) or when the iteration does not converge.

    Raises:
        ValueError: shapes that do not match, values that are not finite, targets outside [0, 1], weights <=
            0.

    Source: Papke & Wooldridge (1996), J. Appl. Econometrics 11:619, the Bernoulli quasi-likelihood.
    """
    X = np.asarray(X, dtype=np.float64)
    y = np.asarray(y, dtype=np.float64)
    w = np.ones_like(y) if weights is None else np.asarray(weights, dtype=np.float64)
    if X.ndim != 2 or y.shape != (len(X),) or w.shape != y.shape:
        raise ValueError(f"need X [n, k], y [n] and weights [n], got {X.shape}, {y.shape} and {w.shape}")
    if not (np.isfinite(X).all() and np.isfinite(w).all() and (w > 0).all()):
        raise ValueError("X must be finite, weights finite and > 0")
    if not ((y >= 0) & (y <= 1)).all():  # also catches NaN
        raise ValueError("targets must be in [0, 1]")
    if np.linalg.matrix_rank(X) < X.shape[1]:
        return LogitFit(None, 0, "the columns of the design are collinear")

    columns = np.ascontiguousarray(X.T)  # [k, n]: each pass below runs along memory

    def loss(log_odds: Array) -> float:
        softplus = np.maximum(log_odds, 0) + np.log(1 + np.exp(-np.abs(log_odds)))
        return float(w @ (softplus - y * log_odds))

    b, log_odds = np.zeros(X.shape[1]), np.zeros(len(y))
    current = loss(log_odds)
    for iteration in range(1, max_iterations + 1):
        p = sigmoid(log_odds)
        information = (columns * (w * p * (1 - p))) @ columns.T
        try:
            step = np.linalg.solve(information, columns @ (w * (y - p)))
        except np.linalg.LinAlgError:
            return LogitFit(None, iteration, "the targets are separated: the information is singular")
        # The loss is convex, so halving a Newton step that overshoots always finds a descent.
        scale = 1.0
        while True:
            log_odds = (b + scale * step) @ columns
            new = loss(log_odds)
            if new <= current + 1e-12 * abs(current) or scale < 1e-8:
                break
            scale /= 2
        b, current = b + scale * step, new
        if np.abs(log_odds).max() > MAX_LOG_ODDS:
            return LogitFit(None, iteration, f"the targets are separated: |log odds| exceed {MAX_LOG_ODDS:g}")
        if np.abs(step).max() <= tolerance * (1 + np.abs(b).max()):
            return LogitFit(b, iteration, None)
    return LogitFit(None, max_iterations, f"no convergence in {max_iterations} iterations")


# Many logistic fits at once, of the same rows under different weights or each of its own rows.

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
