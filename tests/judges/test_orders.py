"""Position bias and judge noise against values worked out by hand and against simulated judges."""

from __future__ import annotations

import math
from statistics import fmean, pvariance

import numpy as np
import pytest

from analysis.judges.alpaca import Pass, judge_noise, mean_preferences, position_bias

# Three pairs in both orders; the candidate is shown first in the first order of pair 0 and 2.
FIRST = Pass(0, [0.9, 0.4, 0.5], [True, False, True])
SECOND = Pass(1, [0.7, 0.6, 0.5], [False, True, False])


class TestMeanPreferences:
    def test_mean_over_orders_of_means_over_repeats(self) -> None:
        again = Pass(0, [0.5, None, 0.5], FIRST.candidate_first)
        # Pair 0: ((0.9 + 0.5) / 2 + 0.7) / 2; pair 1: (0.4 + 0.6) / 2
        assert mean_preferences([FIRST, again, SECOND]) == pytest.approx([0.7, 0.5, 0.5])

    def test_an_order_without_any_judgement_leaves_the_pair_unjudged(self) -> None:
        lost = Pass(1, [None, 0.6, 0.5], SECOND.candidate_first)
        assert mean_preferences([FIRST, lost]) == [None, pytest.approx(0.5), 0.5]
        assert mean_preferences([FIRST]) == [0.9, 0.4, 0.5]


class TestPositionBias:
    def test_by_hand(self) -> None:
        """First shown, pair 0: 0.9 and 1 - 0.7; pair 1: 1 - 0.4 and 0.6; pair 2: 0.5 and 0.5."""
        found = position_bias([FIRST, SECOND])
        leanings = [0.1, 0.1, 0.0]
        assert found["estimate"] == pytest.approx(fmean(leanings))
        assert found["standard_error"] == pytest.approx(np.std(leanings, ddof=1) / math.sqrt(3))
        assert found["consistency"] == pytest.approx(2 / 3)  # pair 1 prefers whichever is first
        assert (found["pairs"], found["orders"], found["reason"]) == (3, 2, None)

    def test_one_order_is_estimated_without_consistency(self) -> None:
        found = position_bias([FIRST])
        assert found["estimate"] == pytest.approx(fmean([0.9, 0.6, 0.5]) - 0.5)
        assert found["consistency"] is None
        assert found["reason"] == "consistency needs both orders"

    def test_nothing_shown_is_undefined(self) -> None:
        found = position_bias([Pass(0, [0.5], [None])])
        assert found["estimate"] is found["standard_error"] is None
        assert "no pair was shown" in found["reason"]

    def test_a_simulated_judge_s_lean_is_found_in_one_order_and_more_sharply_in_both(self) -> None:
        rng = np.random.default_rng(0)
        lean, pairs = 0.08, 4000
        quality = rng.uniform(0.1, 0.9, pairs)
        first = rng.random(pairs) < 0.5

        def judged(order: int, shown_first: np.ndarray) -> Pass:
            chances = quality + np.where(shown_first, lean, -lean)
            return Pass(order, chances.tolist(), shown_first.tolist())

        one = position_bias([judged(0, first)])
        both = position_bias([judged(0, first), judged(1, ~first)])
        assert one["estimate"] == pytest.approx(lean, abs=4 * one["standard_error"])
        assert both["estimate"] == pytest.approx(lean)
        assert both["standard_error"] < one["standard_error"] / 100


class TestJudgeNoise:
    def test_by_hand(self) -> None:
        """Variances (ddof 1) of (0.8, 0.6) and (0.5, 0.5) are 0.02 and 0: 0.01 on the mean, over 2 judgements."""
        passes = [Pass(0, [0.8, 0.5], [True, False]), Pass(0, [0.6, 0.5], [True, False])]
        found = judge_noise(passes)
        assert found["within_pair_sd"] == pytest.approx(0.1)
        assert found["win_rate_variance"] == pytest.approx((100 / 2) ** 2 * 0.01 * (1 / 2 + 1 / 2))
        assert found["win_rate_sd"] == pytest.approx(5.0)

    def test_the_order_s_effect_is_not_noise(self) -> None:
        passes = [Pass(order, [0.9 - 0.3 * order], [order == 0]) for order in (0, 1) for _ in range(2)]
        assert judge_noise(passes)["within_pair_sd"] == pytest.approx(0, abs=1e-12)

    def test_one_judgement_says_nothing_about_noise(self) -> None:
        found = judge_noise([FIRST, SECOND])
        assert found["within_pair_sd"] is None
        assert found["reason"] == "one judgement per pair and order"

    def test_equal_answers_are_not_noise_free_judgements(self) -> None:
        passes = [Pass(0, [0.5, value], [None, True]) for value in (0.4, 0.6)]
        assert judge_noise(passes)["within_pair_sd"] == pytest.approx(math.sqrt(0.02))

    @pytest.mark.parametrize(("orders", "repeats"), [(1, 2), (2, 3)])
    def test_the_win_rate_of_a_simulated_judge_varies_as_much_as_said(
        self, orders: int, repeats: int
    ) -> None:
        rng = np.random.default_rng(1)
        pairs, sd = 60, 0.15
        win_rates, said = [], []
        for _ in range(200):
            passes = [
                Pass(order, (0.5 + rng.normal(0, sd, pairs)).tolist(), [order == 0] * pairs)
                for order in range(orders)
                for _ in range(repeats)
            ]
            win_rates.append(100 * fmean(value for value in mean_preferences(passes) if value is not None))
            said.append(judge_noise(passes)["win_rate_variance"])
        # The variance of 200 draws has a relative SD of sqrt(2 / 199) = 0.1.
        assert fmean(said) == pytest.approx(pvariance(win_rates), rel=0.3)
