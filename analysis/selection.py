"""The best setting of a grid: naively inflated, and corrected by scoring on prompts that did not select it."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.findings import BestDifference, BestOfGrid
from analysis.prompt_bootstrap import draw_prompts

Array: TypeAlias = NDArray[np.float64]


class Score(Protocol):
    """Settings scored under weights of prompts."""

    def __call__(self, weights: Array, wanted: NDArray[np.bool_] | None = None) -> Array:
        """The value of every setting in each draw [draws, settings]; NaN: undefined.

        Args:
            weights: of the prompts [draws, prompts].
            wanted: the only values that matter [draws, settings], where a refit is worth saving; None: all.
        """
        ...


# As in the prompt bootstrap: draws without a value are not missing at random.
MAX_UNDEFINED = 0.05


def mean_score(values: ArrayLike) -> Score:
    """Score of settings by the mean of prompt-level values, such as 100 (preference - 1), over the drawn prompts.

    Args:
        values: [settings, prompts]; NaN: no value, left out of that setting's mean.

    Raises:
        ValueError: not a table.
    """
    table = np.array(values, dtype=np.float64)
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"need values [settings, prompts], got shape {table.shape}")
    known = (~np.isnan(table)).T.astype(np.float64)
    filled = np.nan_to_num(table).T

    def score(weights: Array, wanted: NDArray[np.bool_] | None = None) -> Array:
        with np.errstate(invalid="ignore"):  # a setting without any drawn value: NaN
            return np.asarray(weights @ filled / (weights @ known))

    return score


def best_of_grid(
    score: Score,
    prompts: int,
    *,
    rng: np.random.Generator,
    draws: int = 2000,
    confidence: float = 0.95,
    higher_is_better: bool = True,
) -> BestOfGrid:
    """The best setting's value, corrected for having been selected on the prompts that it is scored on.

    Prompts are drawn with replacement; each draw selects its best setting and scores it on the prompts it did not draw
    (about 37%). The corrected value is the mean of these scores: what the selection, not one setting, is worth on new
    prompts. It selects with fewer distinct prompts than there are, so it is a little low where settings do differ.

    Args:
        score: values of all settings for given weights of prompts: `mean_score`, or any refit that takes weights.
        prompts: their number, at least 2.
        rng: source of the draws; the only randomness.
        draws: at least 2.
        confidence: of the interval, in (0, 1).
        higher_is_better: whether the best is the largest.

    Returns:
        Naive and corrected value; a setting without a value in a draw is not selected there.

    Raises:
        ValueError: a number out of range.

    Source: Tsamardinos, Greasidou & Borboudakis (2018), Machine Learning 107:1895 (BBC-CV).
    """
    weights = _draw(prompts, draws, confidence, rng)
    return _best(score, weights, confidence, higher_is_better)[0]


def best_of_grid_difference(
    candidate: Score,
    baseline: Score,
    prompts: int,
    *,
    rng: np.random.Generator,
    draws: int = 2000,
    confidence: float = 0.95,
    higher_is_better: bool = True,
) -> BestDifference:
    """Best of the candidate's grid minus best of the baseline's, under the same draws of prompts.

    Arguments, errors and source as for `best_of_grid`. Grids of different sizes stay unequal: see
    `compare_search_budgets`.
    """
    weights = _draw(prompts, draws, confidence, rng)
    ours, values = _best(candidate, weights, confidence, higher_is_better)
    theirs, other_values = _best(baseline, weights, confidence, higher_is_better)
    naive = None if ours.naive is None or theirs.naive is None else ours.naive - theirs.naive
    return BestDifference(
        candidate=ours,
        baseline=theirs,
        naive=naive,
        **_summary(values - other_values, confidence),
    )


def _draw(prompts: int, draws: int, confidence: float, rng: np.random.Generator) -> Array:
    if prompts < 2 or draws < 2:
        raise ValueError(f"need at least 2 prompts and 2 draws, got {prompts} and {draws}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    return draw_prompts(prompts, draws, rng)


def _best(
    score: Score, weights: Array, confidence: float, higher_is_better: bool
) -> tuple[BestOfGrid, Array]:
    """The summary, and the out-of-bag value of each draw's best setting [draws], NaN where there is none."""
    sign = 1 if higher_is_better else -1

    def argbest(values: Array) -> NDArray[np.intp]:
        return np.asarray(np.where(np.isnan(values), -np.inf, sign * values).argmax(axis=1))

    everything = score(np.ones((1, weights.shape[1])))
    chosen = int(argbest(everything)[0])
    naive = float(everything[0, chosen])  # NaN only when no setting has a value
    in_bag = score(weights)
    selected = argbest(in_bag)
    wanted = np.zeros(in_bag.shape, dtype=bool)
    wanted[np.arange(len(weights)), selected] = True
    values = score((weights == 0).astype(np.float64), wanted)[wanted]
    values = np.where(np.isnan(in_bag).all(axis=1), np.nan, values)
    defined = ~np.isnan(values)
    shares = np.bincount(selected[defined], minlength=everything.shape[1]) / max(1, int(defined.sum()))
    best = BestOfGrid(
        settings=everything.shape[1],
        chosen=None if np.isnan(naive) else chosen,
        naive=None if np.isnan(naive) else naive,
        confidence=confidence,
        draws=len(weights),
        undefined=int((~defined).sum()),
        share_chosen=shares.tolist(),
        **_summary(values, confidence),
    )
    return best, values


def _summary(values: Array, confidence: float) -> dict[str, Any]:
    defined = values[~np.isnan(values)]
    undefined = len(values) - len(defined)
    if undefined > MAX_UNDEFINED * len(values) or len(defined) < 2:
        reason = f"{undefined} of {len(values)} draws have no value, more than {MAX_UNDEFINED:.0%}"
        return {"corrected": None, "low": None, "high": None, "reason": reason}
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return {"corrected": float(defined.mean()), "low": float(low), "high": float(high), "reason": None}
