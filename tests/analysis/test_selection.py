from typing import Any

import numpy as np
import pytest

from analysis.grid.best_setting import best_of_grid, best_of_grid_difference, expected_maximum, mean_score
from analysis.results.model import BestDifference, BestOfGrid

NAN = float("nan")


def null_grid(seed: int, settings: int = 12, prompts: int = 100) -> np.ndarray:
    """Prompt-level values of settings that do not differ: mean 0, SD 1."""
    return np.random.default_rng(seed).normal(size=(settings, prompts))


def test_by_brute_force() -> None:
    """Naive, corrected value, interval and shares against one draw at a time, with lists of prompts."""
    values = null_grid(0, settings=4, prompts=20) + np.array([[0.0], [0.1], [0.2], [0.3]])
    best = best_of_grid(mean_score(values), 20, rng=np.random.default_rng(1), draws=50)
    rng, scores, chosen = np.random.default_rng(1), [], []
    for counts in rng.multinomial(20, np.full(20, 1 / 20), size=50):
        drawn = [prompt for prompt, count in enumerate(counts) for _ in range(count)]
        others = [prompt for prompt in range(20) if prompt not in drawn]
        chosen.append(max(range(4), key=lambda k: values[k, drawn].mean()))
        scores.append(values[chosen[-1], others].mean())
    assert best.corrected == pytest.approx(np.mean(scores))
    assert (best.low, best.high) == pytest.approx(tuple(np.quantile(scores, [0.025, 0.975])))
    assert best.share_chosen == pytest.approx([chosen.count(k) / 50 for k in range(4)])
    assert (best.naive, best.chosen) == (
        pytest.approx(values.mean(axis=1).max()),
        values.mean(axis=1).argmax(),
    )
    assert (best.settings, best.draws, best.undefined, best.reason) == (4, 50, 0, None)
    assert BestOfGrid.model_validate_json(best.model_dump_json()) == best


def test_null_settings() -> None:
    """Over 200 grids of 12 null settings: the naive best against 1.63 standard errors, the corrected one against 0."""
    bests = [
        best_of_grid(mean_score(null_grid(seed)), 100, rng=np.random.default_rng(seed), draws=100)
        for seed in range(200)
    ]
    naive = np.array([best.naive for best in bests])
    corrected = np.array([best.corrected for best in bests])
    assert abs(naive.mean() - expected_maximum(12) / 10) < 4 * naive.std() / 200**0.5  # SE of a mean is 1/10
    assert abs(corrected.mean()) < 4 * corrected.std() / 200**0.5
    assert corrected.std() < 0.12
    # The percentile interval is too wide rather than too narrow.
    covered = np.mean([b.low is not None and b.high is not None and b.low <= 0 <= b.high for b in bests])
    assert covered > 0.95 - 4 * (0.05 * 0.95 / 200) ** 0.5


def test_one_setting_needs_no_correction() -> None:
    """A grid of one setting against its mean, up to the error of 2000 draws; the direction against its mirror image."""
    values = null_grid(3, settings=1)
    best = best_of_grid(mean_score(values), 100, rng=np.random.default_rng(0))
    assert best.naive == pytest.approx(values.mean())
    assert best.corrected == pytest.approx(values.mean(), abs=4 * 0.13 / 2000**0.5)
    grid = null_grid(4)
    up = best_of_grid(mean_score(grid), 100, rng=np.random.default_rng(0), draws=50)
    down = best_of_grid(
        mean_score(-grid), 100, rng=np.random.default_rng(0), draws=50, higher_is_better=False
    )
    assert (down.chosen, down.share_chosen) == (up.chosen, up.share_chosen)
    assert down.corrected == pytest.approx(-up.corrected)  # type: ignore[operator]


def test_difference() -> None:
    """Best minus best against both bests; swapped arms against the negative; equal arms against exactly 0."""
    a, b = mean_score(null_grid(5) + 0.2), mean_score(null_grid(6, settings=6))

    def difference(candidate: object, baseline: object) -> BestDifference:
        return best_of_grid_difference(candidate, baseline, 100, rng=np.random.default_rng(0), draws=200)  # type: ignore[arg-type]

    ours, swapped = difference(a, b), difference(b, a)
    assert ours.candidate == best_of_grid(a, 100, rng=np.random.default_rng(0), draws=200)
    assert ours.corrected == pytest.approx(ours.candidate.corrected - ours.baseline.corrected)  # type: ignore[operator]
    assert (swapped.naive, swapped.low) == (
        pytest.approx(-ours.naive),  # type: ignore[operator]
        pytest.approx(-ours.high),  # type: ignore[operator]
    )
    same = difference(a, a)
    assert (same.naive, same.corrected, same.low, same.high) == (0, 0, 0, 0)
    assert BestDifference.model_validate_json(ours.model_dump_json()) == ours


def test_missing_values() -> None:
    """A setting without values against never being chosen; no values at all, and two prompts, against the reason."""
    values = null_grid(7, settings=3)
    values[1] = NAN
    best = best_of_grid(mean_score(values), 100, rng=np.random.default_rng(0), draws=50)
    assert best.share_chosen[1] == 0
    assert best.corrected is not None
    nothing = best_of_grid(mean_score(np.full((2, 30), NAN)), 30, rng=np.random.default_rng(0), draws=50)
    assert (nothing.chosen, nothing.naive, nothing.corrected, nothing.low) == (None, None, None, None)
    assert nothing.reason == "50 of 50 draws have no value, more than 5%"
    # Half of the draws of two prompts take both and leave none to score on.
    two = best_of_grid(mean_score([[1.0, 2.0]]), 2, rng=np.random.default_rng(0), draws=100)
    assert two.undefined > 30
    assert two.corrected is None


def test_any_refit_can_be_the_score() -> None:
    """A score that is no mean, a median of the drawn values, against values by hand."""
    values = np.array([[1.0, 5.0, 3.0, 9.0], [2.0, 2.0, 8.0, 8.0]])

    def median(weights: np.ndarray, wanted: np.ndarray | None = None) -> np.ndarray:
        rows = [[np.median(np.repeat(v, w.astype(int))) if w.any() else NAN for v in values] for w in weights]
        return np.array(rows)

    best = best_of_grid(median, 4, rng=np.random.default_rng(0), draws=200)
    assert (best.naive, best.chosen) == (5, 1)  # medians 4 and 5
    assert best.undefined < 200


def test_unusable() -> None:
    """Numbers out of range and tables of one dimension against ValueError."""
    rng = np.random.default_rng(0)
    for options in ({"prompts": 1}, {"draws": 1}, {"confidence": 1.0}):
        with pytest.raises(ValueError, match=r"at least|between"):
            best_of_grid(mean_score([[1.0, 2.0]]), rng=rng, **{"prompts": 2} | options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="settings, prompts"):
        mean_score([1.0, 2.0])


def test_values_that_nobody_wants_change_nothing() -> None:
    """Out of the bag only the selected setting is needed: a score that leaves out the rest gives the same."""
    whole = mean_score(np.random.default_rng(5).normal(size=(6, 20)))
    asked: list[int] = []

    def sparing(weights: Any, wanted: Any = None) -> Any:
        values = whole(weights)
        if wanted is not None:
            asked.append(int(wanted.sum()))
            values[~wanted] = np.nan
        return values

    found = best_of_grid(sparing, 20, rng=np.random.default_rng(0), draws=200)
    assert found == best_of_grid(whole, 20, rng=np.random.default_rng(0), draws=200)
    assert asked == [200]
