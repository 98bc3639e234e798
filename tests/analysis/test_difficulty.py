from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adadpo.errors import AnnotationError, CalibrationError
from analysis.alpaca_eval.difficulty import joint_difficulty
from analysis.alpaca_eval.length_control import length_controlled_win_rate
from tests.analysis.leaderboard import leaderboard_runs, published_lc


def simulated(
    n_runs: int, n_prompts: int, seed: int = 0
) -> tuple[list[list[dict[str, Any]]], Any, list[float]]:
    """Runs of the model that is fitted, length effect -1; difficulties; and win rates had lengths been equal."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(size=n_prompts)
    baseline = rng.integers(50, 150, n_prompts)
    runs, at_equal_lengths = [], []
    for _ in range(n_runs):
        lengths = rng.integers(50, 150, n_prompts)
        delta = baseline - lengths
        log_odds = rng.normal() + difficulty + 0.5 * rng.normal(size=n_prompts)
        at_equal_lengths.append(100 * float(np.mean(1 / (1 + np.exp(-log_odds)))))
        log_odds -= np.tanh(delta / delta.std(ddof=1))
        runs.append(
            [
                {
                    "instruction": f"prompt {k}",
                    "output_1": "x" * int(baseline[k]),
                    "output_2": "x" * int(lengths[k]),
                    "preference": 1 + 1 / (1 + np.exp(-log_odds[k])),
                    "annotator": "judge",
                    "generator_1": "baseline",
                }
                for k in range(n_prompts)
            ]
        )
    return runs, difficulty, at_equal_lengths


@pytest.mark.parametrize("n", [3, 7], ids=["fewer effects of runs", "fewer prompts"])
def test_fit_against_a_general_optimiser(n: int) -> None:
    """Difficulties against scipy.optimize.minimize on the penalised likelihood written out, with gaps."""
    from scipy.optimize import minimize
    from scipy.special import log_expit

    runs, _, _ = simulated(n, 8)
    runs[0][2]["preference"] = None
    del runs[1][5]
    x, y, w = np.zeros((n, 8)), np.zeros((n, 8)), np.zeros((n, 8))
    for k, run in enumerate(runs):
        delta = np.array([len(row["output_1"]) - len(row["output_2"]) for row in run])
        for row, value in zip(run, np.tanh(delta / delta.std(ddof=1)), strict=True):
            if row["preference"] is not None:
                at = int(row["instruction"].split()[1])
                x[k, at], y[k, at], w[k, at] = value, row["preference"] - 1, 1

    def loss(parameters: Any) -> float:
        a, b, g = parameters[:n], parameters[n : 2 * n], parameters[2 * n :]
        log_odds = a[:, None] + b[:, None] * x + g
        likelihood = (w * (y * log_expit(log_odds) + (1 - y) * log_expit(-log_odds))).sum()
        return float(-likelihood + 0.005 * (a @ a + b @ b) + 0.25 * (g @ g))

    best = minimize(loss, np.zeros(2 * n + 8), method="BFGS", options={"gtol": 1e-9}).x
    fitted = joint_difficulty(runs, ridge=0.5)
    assert fitted.instructions == tuple(f"prompt {k}" for k in range(8))
    np.testing.assert_allclose(fitted.difficulty, best[2 * n :], atol=1e-5)
    assert (fitted.method, len(fitted.gamed_targets)) == ("joint_difficulty", 0)


def test_recovers_what_was_simulated() -> None:
    """Difficulties of 40 runs against those that they were drawn from, up to a constant."""
    runs, difficulty, _ = simulated(40, 100)
    fitted = joint_difficulty(runs).difficulty
    assert np.corrcoef(fitted, difficulty)[0, 1] > 0.99
    assert np.std((fitted - fitted.mean()) - (difficulty - difficulty.mean())) < 0.2


def test_win_rate_at_equal_lengths() -> None:
    """LC by joint difficulty against the win rate that the simulated runs would have had at equal lengths."""
    runs, _, at_equal_lengths = simulated(20, 400)
    calibration = joint_difficulty(runs)
    for run, truth in zip(runs, at_equal_lengths, strict=True):
        result = length_controlled_win_rate(run, calibration)
        assert (result.lc_method, result.calibration) == ("joint_difficulty", calibration.fingerprint)
        assert result.length_controlled_win_rate == pytest.approx(truth, abs=2)


def test_order_does_not_matter() -> None:
    """Runs and annotations in another order against the same difficulties; another run against others."""
    runs, _, _ = simulated(4, 20)
    fitted = joint_difficulty(runs)
    again = joint_difficulty([run[::-1] for run in runs[::-1]])
    assert again.instructions == fitted.instructions[::-1]  # type: ignore[index]
    np.testing.assert_allclose(again.difficulty[::-1], fitted.difficulty, atol=1e-9)
    assert joint_difficulty(runs).fingerprint == fitted.fingerprint
    assert joint_difficulty(runs[:3]).fingerprint != fitted.fingerprint


def test_extreme_runs_have_a_fit() -> None:
    """A run that wins everything, one of equal lengths and one without annotations: the fit stays finite."""
    runs, _, _ = simulated(3, 20)
    for row in runs[0]:
        row["preference"] = 2.0
    for row in runs[1]:
        row["output_2"] = row["output_1"]
    fitted = joint_difficulty([*runs, []])
    assert np.isfinite(fitted.difficulty).all()
    assert np.abs(fitted.difficulty).max() < 5


def test_official_figures(alpaca_eval: Path) -> None:
    """LC by joint difficulty of 40 leaderboard models against the published LC.

    A separate fit had a mean absolute error of 0.8 point over 43 models. Here it was 0.93 over
    39; the 40th is the gamed model, whose preferences are separated by length.
    """
    runs, published = leaderboard_runs(alpaca_eval), published_lc(alpaca_eval)
    calibration = joint_difficulty(runs.values())
    errors, undefined = [], []
    for model, run in runs.items():
        lc = length_controlled_win_rate(run, calibration).length_controlled_win_rate
        if lc is None:
            undefined.append(model)
        else:
            errors.append(lc - published[model])
    assert undefined == ["gpt4_gamed"]
    assert np.abs(errors).mean() == pytest.approx(0.93, abs=0.02)


def test_too_small_a_ridge() -> None:
    """Sure judgements, which leave most prompts separated: finite with a small ridge, refused with next to none."""
    runs, _, _ = simulated(3, 30)
    for run in runs:
        for row in run:
            row["preference"] = 1.0 + (row["preference"] > 1.5)
    assert np.isfinite(joint_difficulty(runs, ridge=1e-4).difficulty).all()
    with pytest.raises(ValueError, match=r"3 runs did not converge .* a larger ridge than 1e-09"):
        joint_difficulty(runs, ridge=1e-9)


def test_unusable_arguments() -> None:
    """Too few runs, mixed judges or baselines and ridges that are none against the error."""
    runs, _, _ = simulated(2, 5)
    with pytest.raises(AnnotationError, match="at least 2 runs, got 1"):
        joint_difficulty(runs[:1])
    with pytest.raises(ValueError, match="ridge must be > 0, got 0"):
        joint_difficulty(runs, ridge=0)
    for key in ("annotator", "generator_1"):
        mixed = [runs[0], [{**row, key: "other"} for row in runs[1]]]
        with pytest.raises(AnnotationError, match=f"several {key}s cannot be pooled: .*other"):
            joint_difficulty(mixed)
    with pytest.raises(CalibrationError, match="align='row' is for length_controlled_v1"):
        length_controlled_win_rate(runs[0], joint_difficulty(runs), align="row")
    with pytest.raises(AnnotationError, match="missing instruction"):
        joint_difficulty(
            [runs[0], [{key: runs[1][0][key] for key in ("output_1", "output_2", "preference")}]]
        )
