"""Instruction difficulty fitted from a sweep's own annotations, where there is no calibration file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np

from adadpo.errors import AnnotationError
from analysis.alpaca_eval.annotations import Records
from analysis.alpaca_eval.calibration import Calibration, frozen
from analysis.alpaca_eval.length_control import LcData, lc_data
from analysis.alpaca_eval.logit import Array, sigmoid

# Prompt effects have the prior N(0, 1 / RIDGE), in log odds. Mean absolute error against the published LC of the 39
# of 40 leaderboard models that have one here: 1.05 points at 0.1, 0.97 at 0.3, 0.93 at 1, 1.06 at 3, 1.31 at 10
# (against the official formula aligned by instruction: 0.77 at 1). Fitted from random subsets of the models, at 1: 1.1
# from 20, 1.3 from 10, 1.5 from 6, 1.6 from 2; 0.3 is up to 0.2 better there, 3 worse. Raw WR: 5.2.
RIDGE = 1.0
# Keeps the effects of a run that wins or loses every prompt finite; worth a hundredth of an observation.
RUN_RIDGE = 0.01
MAX_ITERATIONS = 100

Effects: TypeAlias = tuple[Array, Array, Array]  # of the parameters a [runs], b [runs] and g [prompts]


def joint_difficulty(runs: Iterable[Records | LcData], *, ridge: float = RIDGE) -> Calibration:
    """Difficulty of every prompt, from many runs' annotations of the same prompts by the same judge.

    One logistic model of preference - 1: log odds = a_run + b_run tanh(dlen / sd_run(dlen)) + g_prompt. It maximises
    the Bernoulli quasi-likelihood minus ridge / 2 sum g^2 (and 0.005 (a^2 + b^2), so that every fit is finite). The
    g are the difficulties; `length_controlled_win_rate` then fits each run's own length, difficulty and model
    effects with them.

    A run's own preferences enter the difficulties that it is later judged with: of two runs by half, of twenty
    hardly. Every run added or removed changes the difficulties and so every LC a little, hence the fingerprint.

    Args:
        runs: AlpacaEval annotations of each run, at least two, with `instruction`, `output_1`, `output_2` and
            `preference`; where `annotator` and `generator_1` are given they must be one and the same. A run may lack
            prompts or preferences.
        ridge: penalty of the prompt effects, > 0: the inverse variance of their prior.

    Returns:
        A calibration for `joint_difficulty` without gamed rows; prompts in the order of their first appearance.

    Raises:
        AnnotationError: fewer than two runs, several judges or baselines, or what `length_controlled_win_rate`
            raises.
        ValueError: a ridge that is not positive, or no convergence.

    Source: the joint regression of Dubois et al. (2024), arXiv:2404.04475, section 3, with a ridge on the prompts in
    place of cross-validated regularisation.
    """
    if not (np.isfinite(ridge) and ridge > 0):
        raise ValueError(f"ridge must be > 0, got {ridge}")
    data = [lc_data(run, None) for run in runs]
    if len(data) < 2:
        raise AnnotationError(f"joint difficulty needs the annotations of at least 2 runs, got {len(data)}")
    for key, of_runs in (
        ("annotator", [run.annotators for run in data]),
        ("generator_1", [run.baselines for run in data]),
    ):
        found = sorted(frozenset().union(*of_runs))
        if len(found) > 1:
            raise AnnotationError(f"annotations of several {key}s cannot be pooled: {', '.join(found)}")
    prompts = dict.fromkeys(text for run in data for text in run.require_instructions())
    position = {text: k for k, text in enumerate(prompts)}
    shape = (len(data), len(position))
    x, y, weights = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for number, run in enumerate(data):
        if len(run.targets) < 2:
            continue  # no sd; and one prompt says nothing of the others
        sd = run.delta_length.std(ddof=1)
        judged = ~np.isnan(run.targets)
        at = np.array([position[text] for text in run.require_instructions()])[judged]
        y[number, at] = run.targets[judged]
        weights[number, at] = 1
        if sd > 0:  # otherwise all lengths differ alike, which is part of the model effect
            x[number, at] = np.tanh(run.delta_length[judged] / sd)
    difficulty = _fit(x, y, weights, ridge)
    digest = hashlib.sha256(json.dumps(list(position)).encode() + difficulty.tobytes())
    return Calibration(
        method="joint_difficulty",
        difficulty=frozen(difficulty),
        instructions=tuple(position),
        gamed_design=frozen(np.zeros((0, 3))),
        gamed_targets=frozen(np.zeros(0)),
        fingerprint=digest.hexdigest(),
    )


def _fit(x: Array, y: Array, weights: Array, ridge: float) -> Array:
    """Prompt effects g [prompts] of log odds = a + b x + g, all arguments [runs, prompts], by Newton's method."""
    n_runs, n_prompts = x.shape

    def loss(a: Array, b: Array, g: Array) -> float:
        log_odds = a[:, None] + b[:, None] * x + g
        penalty = RUN_RIDGE * (a @ a + b @ b) + ridge * (g @ g)
        return float((weights * (np.logaddexp(0, log_odds) - y * log_odds)).sum() + penalty / 2)

    a, b, g = np.zeros(n_runs), np.zeros(n_runs), np.zeros(n_prompts)
    current = loss(a, b, g)
    for _ in range(MAX_ITERATIONS):
        p = sigmoid(a[:, None] + b[:, None] * x + g)
        residual, w = weights * (y - p), weights * p * (1 - p)
        gradients = (
            residual.sum(1) - RUN_RIDGE * a,
            (residual * x).sum(1) - RUN_RIDGE * b,
            residual.sum(0) - ridge * g,
        )
        solve = _solve_by_runs if 2 * n_runs <= n_prompts else _solve_by_prompts
        steps = step_a, step_b, step_g = solve(x, w, gradients, ridge)
        scale = 1.0
        while True:  # strictly convex: halving a step that overshoots finds a descent
            new = a + scale * step_a, b + scale * step_b, g + scale * step_g
            if loss(*new) <= current + 1e-12 * abs(current) or scale < 1e-8:
                break
            scale /= 2
        (a, b, g), current = new, loss(*new)
        if max(np.abs(step).max() for step in steps) <= 1e-9:
            return np.asarray(g, dtype=np.float64)
    raise ValueError(
        f"the joint fit of {n_runs} runs did not converge in {MAX_ITERATIONS} iterations; a larger ridge than "
        f"{ridge:g} makes it better determined"
    )


def _solve_by_runs(x: Array, w: Array, gradients: Effects, ridge: float) -> Effects:
    """A Newton step; the information is diagonal in the prompts: without them it is a system of 2 runs x 2 runs."""
    run, n_runs = np.arange(len(x)), len(x)
    cross = np.vstack([w, w * x])
    information = np.diag(np.concatenate([w.sum(1), (w * x * x).sum(1)]) + RUN_RIDGE)
    information[run, n_runs + run] = information[n_runs + run, run] = (w * x).sum(1)
    diagonal = w.sum(0) + ridge
    gradient_a, gradient_b, gradient_g = gradients
    step = np.linalg.solve(
        information - (cross / diagonal) @ cross.T,
        np.concatenate([gradient_a, gradient_b]) - cross @ (gradient_g / diagonal),
    )
    return step[:n_runs], step[n_runs:], (gradient_g - step @ cross) / diagonal


def _solve_by_prompts(x: Array, w: Array, gradients: Effects, ridge: float) -> Effects:
    """The same; two effects of a run meet others through prompts alone: without runs it is prompts x prompts."""
    wx = w * x
    of_a, of_ab, of_b = w.sum(1) + RUN_RIDGE, wx.sum(1), (wx * x).sum(1) + RUN_RIDGE
    determinant = of_a * of_b - of_ab**2

    def per_run(first: Array, second: Array) -> tuple[Array, Array]:
        """The inverse of every run's 2 x 2 block times a pair of [runs] or [prompts, runs]."""
        return (of_b * first - of_ab * second) / determinant, (of_a * second - of_ab * first) / determinant

    gradient_a, gradient_b, gradient_g = gradients
    left, right = per_run(w.T, wx.T)
    step_g = np.linalg.solve(
        np.diag(w.sum(0) + ridge) - left @ w - right @ wx,
        gradient_g - left @ gradient_a - right @ gradient_b,
    )
    step_a, step_b = per_run(gradient_a - w @ step_g, gradient_b - wx @ step_g)
    return step_a, step_b, np.asarray(step_g, dtype=np.float64)
