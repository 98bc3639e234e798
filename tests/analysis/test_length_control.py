import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analysis.alpaca_eval.length_control import length_controlled_win_rate
from analysis.alpaca_eval.logit import fit_fractional_logit


def rows_of(lengths_1: Any, lengths_2: Any, preferences: Any) -> list[dict[str, Any]]:
    return [
        {"output_1": "x" * int(a), "output_2": "x" * int(b), "preference": p}
        for a, b, p in zip(lengths_1, lengths_2, preferences, strict=True)
    ]


def random_problem(seed: int, n: int = 200) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.tanh(rng.normal(size=n)), np.ones(n), rng.normal(size=n)])
    y = 1 / (1 + np.exp(-X @ [1.0, -0.5, 0.3] - rng.normal(size=n)))
    return X, y, rng.uniform(0.1, 2, size=n)


@pytest.mark.parametrize("seed", range(3))
def test_fit_equals_a_general_optimiser(seed: int) -> None:
    """Newton's coefficients against scipy.optimize.minimize (BFGS) on the likelihood."""
    from scipy.optimize import minimize
    from scipy.special import log_expit

    X, y, w = random_problem(seed)

    def loss(b: Any) -> float:
        return float(-(w * (y * log_expit(X @ b) + (1 - y) * log_expit(-X @ b))).sum())

    def gradient(b: Any) -> Any:
        return X.T @ (w * (1 / (1 + np.exp(-X @ b)) - y))

    expected = minimize(loss, np.zeros(3), jac=gradient, method="BFGS", options={"gtol": 1e-7}).x
    fit = fit_fractional_logit(X, y, w)
    assert fit.reason is None
    np.testing.assert_allclose(fit.coefficients, expected, atol=1e-7)
    np.testing.assert_allclose(gradient(fit.coefficients), 0, atol=1e-9)


def test_fit_equals_sklearn() -> None:
    """Newton's coefficients against scikit-learn without penalty, fractional targets as pairs of weighted
    rows."""
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    X, y, w = random_problem(7)
    model = linear_model.LogisticRegression(
        C=np.inf, fit_intercept=False, solver="newton-cholesky", tol=1e-12, max_iter=1000
    )
    labels = np.repeat([1, 0], len(y))
    model.fit(np.vstack([X, X]), labels, sample_weight=np.concatenate([w * y, w * (1 - y)]))
    np.testing.assert_allclose(fit_fractional_logit(X, y, w).coefficients, model.coef_[0], atol=1e-8)


def test_unit_weights_are_the_default() -> None:
    """Integer weights against repeated rows, and no weights against ones."""
    X, y, _ = random_problem(3, n=40)
    weights = np.arange(40) % 3 + 1.0
    repeated = fit_fractional_logit(
        np.repeat(X, weights.astype(int), axis=0), np.repeat(y, weights.astype(int))
    )
    np.testing.assert_allclose(
        fit_fractional_logit(X, y, weights).coefficients, repeated.coefficients, atol=1e-10
    )
    np.testing.assert_array_equal(
        fit_fractional_logit(X, y).coefficients, fit_fractional_logit(X, y, np.ones(40)).coefficients
    )


def test_fits_without_a_finite_maximum() -> None:
    """Separated and collinear data against None with the reason."""
    x = np.linspace(-1, 1, 10)
    X = np.column_stack([x, np.ones(10)])
    for targets in ((x > 0).astype(float), np.ones(10), np.where(x > 0, 1.0, 0.0)):
        fit = fit_fractional_logit(X, targets)
        assert fit.coefficients is None
        assert fit.reason is not None
        assert "separated" in fit.reason
    fit = fit_fractional_logit(np.ones((10, 2)), (x > 0).astype(float))
    assert fit.reason == "the columns of the design are collinear"
    X, y, w = random_problem(0)
    assert fit_fractional_logit(X, y, w, max_iterations=1).reason == "no convergence in 1 iterations"


@pytest.mark.parametrize(
    ("X", "y", "w"),
    [
        (np.ones(3), np.ones(3), None),
        (np.ones((3, 1)), np.ones(2), None),
        (np.ones((2, 1)), np.array([0.5, 1.5]), None),
        (np.ones((2, 1)), np.array([0.5, np.nan]), None),
        (np.full((2, 1), np.inf), np.array([0.5, 0.5]), None),
        (np.ones((2, 1)), np.array([0.5, 0.5]), np.array([1.0, 0.0])),
    ],
)
def test_unusable_arguments(X: Any, y: Any, w: Any) -> None:
    """Wrong shapes, targets and weights against ValueError."""
    with pytest.raises(ValueError, match=r"need X|must be"):
        fit_fractional_logit(X, y, w)


def test_formula_by_hand() -> None:
    """LC of four prompts in two groups of one length difference each, against the closed form.

    A saturated model fits both group means: log odds at -x and at +x are a and b, so at 0 they are (a + b)
    / 2.
    """
    rows = rows_of([10, 10, 30, 30], [20, 20, 20, 20], [1.2, 1.4, 1.8, 1.9])
    low, high = np.log(0.3 / 0.7), np.log(0.85 / 0.15)
    result = length_controlled_win_rate(rows)
    assert result.length_controlled_win_rate == pytest.approx(100 / (1 + np.exp(-(low + high) / 2)), abs=1e-9)
    x = np.tanh(10 / np.std([-10, -10, 10, 10], ddof=1))
    assert result.coefficients == pytest.approx({"length": (high - low) / 2 / x, "model": (low + high) / 2})
    assert (result.n, result.lc_method, result.reason) == (4, "no_difficulty", None)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (rows_of([5, 6], [1, 1], [1, 2]), "2 preferences are too few"),
        (rows_of([5] * 4, [3] * 4, [1, 2, 1, 2]), r"all 4 length differences are 2 characters \(sd 0\)"),
        (rows_of([5, 6, 7], [5, 6, 7], [1, 2, 1]), "all 3 length differences are 0 characters"),
        (rows_of([5, 6, 7], [5, 5, 5], [2, 2, 2]), "every preference is 2: the model effect is not finite"),
        (rows_of([5, 6, 7], [5, 5, 5], [1, 1, 1]), "every preference is 1: the model effect is not finite"),
        (rows_of([1, 2, 8, 9], [5] * 4, [1, 1, 2, 2]), "the logistic fit failed: the targets are separated"),
        (rows_of([1, 2, 8, 9], [5] * 4, [1 + 1e-6, 1 + 1e-6, 2 - 1e-6, 2 - 1e-6]), "separated by length"),
        (rows_of([], [], []), "0 preferences are too few"),
    ],
)
def test_undefined_is_none_with_a_reason(rows: Any, reason: str) -> None:
    """Data without an LC against None and the reason; the raw win rate never takes its place."""
    result = length_controlled_win_rate(rows)
    assert result.length_controlled_win_rate is None
    assert result.coefficients == {}
    assert result.reason is not None
    assert re.search(reason, result.reason)


def test_all_the_same_fractional_preference_is_defined() -> None:
    """A judge that always says 1.25 against LC = 25, whatever the lengths."""
    result = length_controlled_win_rate(rows_of([5, 6, 7, 9], [5] * 4, [1.25] * 4))
    assert result.length_controlled_win_rate == pytest.approx(25)
    assert result.coefficients["length"] == pytest.approx(0, abs=1e-9)


def test_unknown_method_names_the_choices() -> None:
    """An unknown method, and one that needs a calibration, against the error."""
    with pytest.raises(ValueError, match=r"one of length_controlled_v1, .*no_difficulty, got 'v9'"):
        length_controlled_win_rate([], method="v9")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'length_controlled_v1' needs a calibration"):
        length_controlled_win_rate([], method="length_controlled_v1")


PROMPTS = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 50), st.floats(1.05, 1.95)), min_size=5, max_size=25
)


@given(PROMPTS, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=100)
def test_symmetry(prompts: list[tuple[int, int, float]], random: Any) -> None:
    """LC of swapped outputs against 100 - LC; LC of shuffled prompts against LC."""
    result = length_controlled_win_rate(rows_of(*zip(*prompts, strict=True)))
    assume(result.length_controlled_win_rate is not None)
    assert result.length_controlled_win_rate is not None
    swapped = length_controlled_win_rate(rows_of(*zip(*[(b, a, 3 - p) for a, b, p in prompts], strict=True)))
    assert swapped.length_controlled_win_rate == pytest.approx(
        100 - result.length_controlled_win_rate, abs=1e-6
    )
    random.shuffle(prompts)
    shuffled = length_controlled_win_rate(rows_of(*zip(*prompts, strict=True)))
    assert shuffled.length_controlled_win_rate == pytest.approx(result.length_controlled_win_rate, abs=1e-6)
    assert shuffled.n == result.n


def test_close_to_the_official_figure(alpaca_eval: Path) -> None:
    """LC without difficulty against the published LC of 40 models, which uses difficulty and a calibration
    file.

    The formulas differ, so this is a sanity check: a separate fit had a mean absolute
    difference of 5.4 points over 43 models; over the 39 of these 40 that have one it was 6.33 when this
    test was written. The 40th is the gamed model, whose preferences are separated by length.
    """
    published = pd.read_csv(alpaca_eval / "leaderboard.csv", index_col=0)
    errors, undefined = [], []
    for model, rows in pd.read_csv(alpaca_eval / "annotations.csv.gz").groupby("model"):
        result = length_controlled_win_rate(rows_of(rows["len_1"], rows["len_2"], rows["preference"]))
        if result.length_controlled_win_rate is None:
            undefined.append(model)
        else:
            errors.append(
                result.length_controlled_win_rate - published.loc[model, "length_controlled_winrate"]
            )
    assert undefined == ["gpt4_gamed"]
    assert np.abs(errors).mean() == pytest.approx(6.33, abs=0.02)
