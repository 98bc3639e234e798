"""Standard errors over prompts: the paired bootstrap, with the length control refitted in every replicate.

alpaca_eval's own `lc_standard_error` is the spread of fitted probabilities, not a standard error; this is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, get_args

import numpy as np

from analysis.alpaca_eval.annotations import Records
from analysis.alpaca_eval.calibration import GAMED_WEIGHT, Align, Calibration
from analysis.alpaca_eval.length_control import (
    MAX_LENGTH_EFFECT,
    LcData,
    LcMethod,
    check_method,
    fit_length_control,
    is_limited,
    lc_data,
)
from analysis.alpaca_eval.logit import MAX_LOG_ODDS, Array, fit_weighted_logits, sigmoid
from analysis.inference.generalization import DifferenceDraws
from analysis.results.model import Frozen

WinRate = Literal["win_rate", "length_controlled_win_rate"]
BootstrapMetric = Literal[WinRate, "lc_minus_wr"]

# Replicates fitted at once: small enough for their [replicates, prompts] arrays to stay in the processor's cache.
BLOCK = 64
# Replicates without a value are not missing at random (they are the extreme draws), so an SE from the others is too
# small; up to this share the loss is below what 2000 replicates can show.
MAX_UNDEFINED = 0.05


class BootstrapEstimate(Frozen):
    """A value with its standard error over prompts, in percentage points; None beside the reason."""

    metric: BootstrapMetric
    estimate: float | None  # from all prompts, not the mean of the replicates
    standard_error: float | None  # SD of the replicates, ddof = 1
    low: float | None  # percentile interval
    high: float | None
    confidence: float
    n: int  # prompts drawn in each replicate
    replicates: int
    undefined: int  # replicates in which there is no value
    reason: str | None  # why something is None


class BootstrapDifference(BootstrapEstimate):
    """Candidate minus baseline under the same draws."""

    candidate: tuple[str, ...]
    baseline: tuple[str, ...]
    p_value: float | None  # two-sided, from the percentile intervals; at least 2 / (replicates + 1)


class Rows(Protocol):
    """A row per run: an array, or what reads rows when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Runs and replicates."""

    def __getitem__(self, at: list[int], /) -> Array:
        """These rows [len(at), replicates]."""


@dataclass(frozen=True, eq=False)
class PromptBootstrap:
    """Replicates of every run under the same draws of prompts."""

    runs: tuple[str, ...]
    lc_method: str
    calibration: str | None  # fingerprint
    n: int  # prompts drawn in each replicate: those that any run has
    estimates: Mapping[BootstrapMetric, Array]  # [runs], percent; NaN: undefined
    replicates: Mapping[WinRate, Rows]  # [runs, replicates], percent; NaN: undefined
    reasons: Mapping[str, str]  # run -> why its length-controlled win rate is undefined

    def drawn(self, metric: BootstrapMetric, at: Sequence[int]) -> Array:
        """Replicates of the runs in these rows [len(at), replicates], percent; NaN: undefined."""
        if metric == "lc_minus_wr":
            return self.drawn("length_controlled_win_rate", at) - self.drawn("win_rate", at)
        return np.asarray(self.replicates[metric][list(at)])

    @cached_property
    def places(self) -> dict[str, int]:
        """Run -> its row."""
        return {name: place for place, name in enumerate(self.runs)}


def prompt_bootstrap(
    runs: Mapping[str, Records | LcData],
    *,
    rng: np.random.Generator,
    calibration: Calibration | None = None,
    align: Align = "instruction",
    method: LcMethod | None = None,
    replicates: int = 2000,
) -> PromptBootstrap:
    """Draw prompts with replacement, the same for all runs, and compute WR, LC and LC - WR of each draw.

    In every replicate sd(dlen) is taken and the regression refitted, as if `length_controlled_win_rate` were
    called on the drawn annotations. The calibration (difficulties and gamed rows) stays as it is, so the errors are
    given the calibration; and given these responses and judgements: they say nothing about other seeds or judges.

    Prompts are the union over runs, joined by `instruction`. A run that lacks a drawn prompt has weight 0 on it and
    is computed from the others; an annotation without a preference counts for sd(dlen) and the prediction alone.

    Args:
        runs: name -> AlpacaEval annotations with `instruction`, `output_1`, `output_2` and `preference`, or `lc_data`
            of them.
        rng: source of the draws; the only randomness.
        calibration: as for `length_controlled_win_rate`, as are align and method.
        align: how difficulties find their annotations.
        method: which formula; None is the calibration's.
        replicates: number of draws, at least 2.

    Returns:
        The replicates; `bootstrap_estimate` and `bootstrap_difference` read them.

    Raises:
        AnnotationError, CalibrationError: as `length_controlled_win_rate`.
        ValueError: no runs, no prompts, fewer than 2 replicates, or an unusable method or align.

    Source: Efron & Tibshirani (1993), chapters 6 and 13; pairs (cases) are resampled, not residuals.
    """
    if replicates < 2:
        raise ValueError(f"a standard error needs at least 2 replicates, got {replicates}")
    check_method(method, calibration)
    rows = {name: lc_data(run, calibration, align) for name, run in runs.items()}
    prompts = dict.fromkeys(text for data in rows.values() for text in data.require_instructions())
    position = {text: k for k, text in enumerate(prompts)}
    n = len(position)
    if not n:
        raise ValueError("there is no prompt to draw: no runs, or runs without annotations")
    draws = draw_prompts(n, replicates, rng)
    shape = (len(rows), replicates)
    wr, lc = np.full(shape, np.nan), np.full(shape, np.nan)
    wr_all, lc_all = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    reasons: dict[str, str] = {}
    for number, (name, data) in enumerate(rows.items()):
        at = np.array([position[text] for text in data.require_instructions()], dtype=np.intp)
        counts = draws[:, at]
        wr[number] = weighted_win_rates(data, counts)
        if not np.isnan(data.targets).all():
            wr_all[number] = 100 * np.nanmean(data.targets)
        full = fit_length_control(data, calibration)
        if full.length_controlled_win_rate is None:
            # Draws of a sample without an LC have none either, or by accident of a few prompts.
            reasons[name] = str(full.reason)
            continue
        lc_all[number] = full.length_controlled_win_rate
        start = np.array(list(full.coefficients.values()))
        for begin in range(0, replicates, BLOCK):
            block = slice(begin, begin + BLOCK)
            lc[number, block] = weighted_length_controlled(data, counts[block], start, calibration)
    return PromptBootstrap(
        runs=tuple(rows),
        lc_method="no_difficulty" if calibration is None else calibration.method,
        calibration=None if calibration is None else calibration.fingerprint,
        n=n,
        estimates={"win_rate": wr_all, "length_controlled_win_rate": lc_all, "lc_minus_wr": lc_all - wr_all},
        replicates={"win_rate": wr, "length_controlled_win_rate": lc},
        reasons=reasons,
    )


def draw_prompts(n: int, replicates: int, rng: np.random.Generator) -> Array:
    """How often each prompt is drawn in each replicate [replicates, n]; more replicates begin with the same draws."""
    return rng.multinomial(n, np.full(n, 1 / n), size=replicates).astype(np.float64)


def bootstrap_estimate(
    bootstrap: PromptBootstrap, run: str, metric: BootstrapMetric, *, confidence: float = 0.95
) -> BootstrapEstimate:
    """One run's value with its standard error and percentile interval over prompts.

    Args:
        bootstrap: of all runs.
        run: its name.
        metric: "win_rate", "length_controlled_win_rate" or "lc_minus_wr".
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: an unknown run or metric, or a confidence outside (0, 1).
    """
    estimate, values = _mean_of(bootstrap, (run,), metric)
    return BootstrapEstimate(**_summary(bootstrap, metric, estimate, values, (run,), confidence))


def bootstrap_difference(
    bootstrap: PromptBootstrap,
    candidate: str | Sequence[str],
    baseline: str | Sequence[str],
    metric: BootstrapMetric,
    *,
    confidence: float = 0.95,
) -> BootstrapDifference:
    """Candidate minus baseline, each one run or the mean of several (an arm's seeds), under the same draws.

    The p-value is the one that inverts the percentile intervals: 2 min(#{d* <= 0} + 1, #{d* >= 0} + 1) / (B + 1),
    at most 1, over the B replicates that are defined. It speaks of other prompts, not of other seeds. Where runs lack
    different prompts, each side is over its own.

    Args:
        bootstrap: of all runs.
        candidate: name of a run, or names whose mean is taken.
        baseline: the same.
        metric: "win_rate", "length_controlled_win_rate" or "lc_minus_wr".
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: an unknown run or metric, no run, or a confidence outside (0, 1).

    Source: Davison & Hinkley (1997), section 4.4 and 5.3.1; the + 1 keeps p above 0.
    """
    sides = [(names,) if isinstance(names, str) else tuple(names) for names in (candidate, baseline)]
    (estimate_1, values_1), (estimate_2, values_2) = (_mean_of(bootstrap, names, metric) for names in sides)
    values = values_1 - values_2
    summary = _summary(bootstrap, metric, estimate_1 - estimate_2, values, sides[0] + sides[1], confidence)
    p_value = None
    if summary["standard_error"] is not None:
        defined = values[~np.isnan(values)]
        tail = 1 + min((defined <= 0).sum(), (defined >= 0).sum())
        p_value = min(1.0, float(2 * tail / (len(defined) + 1)))
    return BootstrapDifference(**summary, candidate=sides[0], baseline=sides[1], p_value=p_value)


def weighted_win_rates(data: LcData, counts: Array) -> Array:
    """Win rate in percent for each row of counts [replicates, n]; NaN where no preference was drawn."""
    judged = ~np.isnan(data.targets)
    drawn = counts[:, judged]
    with np.errstate(invalid="ignore"):
        return np.asarray(100 * (drawn @ data.targets[judged]) / drawn.sum(axis=1))


def weighted_length_controlled(
    data: LcData, counts: Array, start: Array, calibration: Calibration | None
) -> Array:
    """LC in percent for each row of counts [replicates, n]; NaN where it is undefined."""
    judged = ~np.isnan(data.targets)
    total = counts.sum(axis=1)
    # Centred first: the one-pass variance below then loses no digits.
    delta = data.delta_length - data.delta_length.mean()
    with np.errstate(divide="ignore", invalid="ignore"):  # draws with none of this run's prompts, or one
        variance = (counts @ delta**2 - (counts @ delta) ** 2 / total) / (total - 1)
    columns = [np.ones(len(delta))] if data.difficulty is None else [data.difficulty, np.ones(len(delta))]
    shared = np.column_stack(columns)
    # A draw of so few prompts that nothing varies is for the careful fit below; so is all that fails here.
    usual = variance > 1e-6 * delta.var()
    sd = np.sqrt(variance[usual])[:, None]
    coefficients = np.full((len(counts), len(start)), np.nan)
    fixed = None
    if calibration is not None and len(calibration.gamed_targets):
        fixed = (calibration.gamed_design, calibration.gamed_targets, GAMED_WEIGHT)
    coefficients[usual] = fit_weighted_logits(
        np.tanh(data.delta_length[judged] / sd),
        shared[judged],
        data.targets[judged],
        counts[usual][:, judged],
        start,
        fixed,
    )
    predicted = sigmoid(coefficients[:, 1:] @ shared.T)
    values = 100 * np.einsum("rn,rn->r", counts, predicted) / np.maximum(total, 1)
    if is_limited(calibration):
        # Where the length effect is beyond its limit the scalar function says undefined, and so does this.
        values[np.abs(coefficients[:, 0]) > MAX_LENGTH_EFFECT] = np.nan
    reach = np.abs(coefficients) @ np.array([1.0, *np.abs(shared).max(axis=0)])
    for number in np.flatnonzero(~(reach <= MAX_LOG_ODDS)):
        careful = fit_length_control(data, calibration, counts[number]).length_controlled_win_rate
        values[number] = np.nan if careful is None else careful
    return np.asarray(values)


def _mean_of(
    bootstrap: PromptBootstrap, names: tuple[str, ...], metric: BootstrapMetric
) -> tuple[float, Array]:
    if metric not in get_args(BootstrapMetric):
        raise ValueError(f"metric must be one of {', '.join(get_args(BootstrapMetric))}, got {metric!r}")
    if unknown := [name for name in names if name not in bootstrap.places]:
        raise ValueError(f"no run {', '.join(unknown)} in this bootstrap of {len(bootstrap.runs)} runs")
    if not names:
        raise ValueError("a mean needs at least one run")
    at = [bootstrap.places[name] for name in names]
    return float(bootstrap.estimates[metric][at].mean()), bootstrap.drawn(metric, at).mean(axis=0)


def _summary(
    bootstrap: PromptBootstrap,
    metric: BootstrapMetric,
    estimate: float,
    values: Array,
    names: tuple[str, ...],
    confidence: float,
) -> dict[str, object]:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    defined = values[~np.isnan(values)]
    undefined = len(values) - len(defined)
    reason = None
    if np.isnan(estimate):
        said = {name: f"{name}: {bootstrap.reasons[name]}" for name in names if name in bootstrap.reasons}
        if metric == "win_rate":  # the one way for it to be undefined
            at = bootstrap.estimates[metric]
            said = {name: f"{name}: no preference" for name in names if np.isnan(at[bootstrap.places[name]])}
        reason = "; ".join(said.values())
    elif undefined > MAX_UNDEFINED * len(values) or len(defined) < 2:
        reason = f"{undefined} of {len(values)} replicates have no value, more than {MAX_UNDEFINED:.0%}"
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = (None, None) if reason else map(float, np.quantile(defined, tails))
    return {
        "metric": metric,
        "estimate": None if np.isnan(estimate) else estimate,
        "standard_error": None if reason else float(defined.std(ddof=1)),
        "low": low,
        "high": high,
        "confidence": confidence,
        "n": bootstrap.n,
        "replicates": len(values),
        "undefined": undefined,
        "reason": reason,
    }


def difference_draws(
    bootstrap: PromptBootstrap, metric: BootstrapMetric, runs: list[list[tuple[str, str] | None]]
) -> DifferenceDraws | None:
    """Differences under common draws from each run's replicates; None when no pair has them.

    Args:
        bootstrap: of all runs.
        metric: one that it has.
        runs: [settings][seeds] candidate's and baseline's run; None: no complete pair.
    """
    at = bootstrap.places
    places = [
        [
            (at[pair[0]], at[pair[1]]) if pair and pair[0] in at and pair[1] in at else None
            for pair in of_setting
        ]
        for of_setting in runs
    ]
    if not any(pair for of_setting in places for pair in of_setting):
        return None
    return DifferenceDraws(_PairDraws(bootstrap, metric, places), bootstrap.n)


@dataclass(frozen=True, slots=True, eq=False)
class _PairDraws(Sequence[Array]):
    """Differences of one setting at a time: those of all settings of a large sweep are gigabytes."""

    bootstrap: PromptBootstrap
    metric: BootstrapMetric
    places: list[
        list[tuple[int, int] | None]
    ]  # [settings][seeds] candidate's and baseline's row; None: no pair

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, setting: Any) -> Any:
        pairs = self.places[setting]
        (size,) = {table.shape[1] for table in self.bootstrap.replicates.values()}
        values = np.full((len(pairs), size), np.nan)
        for s, pair in enumerate(pairs):
            if pair is not None:
                candidate, baseline = self.bootstrap.drawn(self.metric, pair)
                values[s] = candidate - baseline
        return values
