"""Losses are checked against TRL's formula, autograd, finite differences and probabilities written down by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from adadpo.method.balance import LARGEST_LOG_RATIO, coefficients
from adadpo.method.losses import PreferenceLoss, preference_loss
from adadpo.method.registry import Method, make_method

BALANCED = [
    make_method(
        "dpo", balance=balance, balance_reference=reference, clip=clip, normalization=normal, placement=place
    )
    for balance, reference, clip, normal, place in itertools.product(
        ("sequence", "per_token"),
        (False, True),
        (1.5, None),
        ("geometric", "chosen", "rejected", "mean"),
        ("margin", "gradient"),
    )
]
EVERY = [make_method("dpo"), *BALANCED]
UNCLIPPED = [m for m in BALANCED if m.clip is None]


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# Four pairs with lengths that differ; per-token means between -2.5 and -0.4, log-ratios of both signs.
CHOSEN, REJECTED = f64(-6.0, -8.0, -20.0, -2.0), f64(-12.0, -5.0, -21.0, -10.0)
REF_CHOSEN, REF_REJECTED = f64(-7.0, -7.5, -23.0, -2.5), f64(-11.0, -5.5, -19.0, -9.0)
CHOSEN_LENGTHS, REJECTED_LENGTHS = torch.tensor([6, 8, 10, 5]), torch.tensor([8, 4, 9, 4])


def loss_of(
    method: str | Method,
    chosen: Tensor = CHOSEN,
    rejected: Tensor = REJECTED,
    ref_chosen: Tensor = REF_CHOSEN,
    ref_rejected: Tensor = REF_REJECTED,
    chosen_lengths: Tensor = CHOSEN_LENGTHS,
    rejected_lengths: Tensor = REJECTED_LENGTHS,
    **hyperparameters: object,
) -> PreferenceLoss:
    return preference_loss(
        method,
        chosen_logps=chosen,
        rejected_logps=rejected,
        chosen_lengths=chosen_lengths,
        rejected_lengths=rejected_lengths,
        reference_chosen_logps=ref_chosen,
        reference_rejected_logps=ref_rejected,
        **hyperparameters,
    )


def leaves(*values: Tensor) -> list[Tensor]:
    return [value.clone().requires_grad_(True) for value in values]


def token_probabilities(seed: int) -> tuple[list[Tensor], list[Tensor]]:
    """Probabilities of each token of four chosen and four rejected responses, as leaves."""
    random = torch.Generator().manual_seed(seed)
    draw = [
        [
            (0.05 + 0.9 * torch.rand(int(n), generator=random, dtype=torch.float64)).requires_grad_()
            for n in ns
        ]
        for ns in (CHOSEN_LENGTHS, REJECTED_LENGTHS)
    ]
    return draw[0], draw[1]


def geometric_gradient(tokens: list[Tensor]) -> Tensor:
    """Per response, the geometric mean over its tokens of |dL/dpi(y_t)|."""
    return torch.stack([t.grad.abs().log().mean().exp() for t in tokens])


def sums(tokens: list[Tensor]) -> Tensor:
    return torch.stack([t.log().sum() for t in tokens])


class TestBaseLoss:
    @settings(deadline=None, max_examples=50)
    @given(
        logps=st.lists(st.floats(-1e4, 0), min_size=4, max_size=4),
        beta=st.floats(1e-3, 5),
    )
    def test_without_balance_it_is_trl_s_sigmoid_loss_bit_for_bit(
        self, logps: list[float], beta: float
    ) -> None:
        """Against trl 1.16 dpo_trainer.py, loss_type "sigmoid": -F.logsigmoid(self.beta * delta_score)."""
        s_w, s_l, ref_w, ref_l = (f64(v) for v in logps)
        one = torch.tensor([1])
        ours = loss_of("dpo", s_w, s_l, ref_w, ref_l, one, one, beta=beta)
        assert torch.equal(ours.loss, -F.logsigmoid(beta * ((s_w - ref_w) - (s_l - ref_l))))
        assert torch.equal(ours.chosen_rewards, beta * (s_w - ref_w))
        assert torch.equal(ours.rejected_rewards, beta * (s_l - ref_l))

    def test_without_balance_the_coefficients_are_one(self) -> None:
        """Against Rafailov et al. 2023, equation 7: h = beta (r_w - r_l) has no coefficient."""
        result = loss_of("dpo")
        assert torch.equal(result.chosen_coefficient, torch.ones(4, dtype=torch.float64))
        assert torch.equal(result.rejected_coefficient, torch.ones(4, dtype=torch.float64))
        assert not result.clipped.any()

    def test_missing_reference_is_an_error(self) -> None:
        """Against the docstring: DPO has a reference, and None is not 0."""
        with pytest.raises(ValueError, match="needs reference_chosen_logps"):
            loss_of("dpo", ref_chosen=None)

    def test_hyperparameters_go_on_top_of_a_method(self) -> None:
        """Against the method made in one go; an option that comes with a default is not taken for the user's."""
        adadpo = make_method("adadpo", beta=0.3)
        assert torch.equal(loss_of(adadpo, balance="none").loss, loss_of("dpo", beta=0.3).loss)
        assert torch.equal(loss_of(adadpo, clip=1.5).loss, loss_of("adadpo", beta=0.3, clip=1.5).loss)
        with pytest.raises(ValueError, match="clip has no effect"):
            loss_of(make_method("adadpo", clip=3.0), balance="none")


class TestInvariants:
    @pytest.mark.parametrize("method", EVERY, ids=str)
    def test_step_zero_is_log_two(self, method: Method) -> None:
        """Against log 2 = -log sigmoid(0): before the first step every log-ratio is 0."""
        result = loss_of(method, ref_chosen=CHOSEN, ref_rejected=REJECTED)
        assert torch.equal(result.loss, torch.full((4,), math.log(2), dtype=torch.float64))

    @pytest.mark.parametrize(
        "method", [m for m in EVERY if m.balance == "none" or m.balance_reference], ids=str
    )
    def test_common_shift_changes_nothing_when_only_log_ratios_count(self, method: Method) -> None:
        """Against itself with policy and reference moved by 3 and -2 nats: s - s_ref is unchanged."""
        plain = loss_of(method)
        shifted = loss_of(method, CHOSEN + 3, REJECTED - 2, REF_CHOSEN + 3, REF_REJECTED - 2)
        for name in (
            "loss",
            "chosen_coefficient",
            "rejected_coefficient",
            "chosen_rewards",
            "rejected_rewards",
        ):
            torch.testing.assert_close(getattr(shifted, name), getattr(plain, name), rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("method", [m for m in BALANCED if not m.balance_reference], ids=str)
    def test_common_shift_with_balance_by_the_policy(self, method: Method) -> None:
        """Rewards never feel a common shift; the loss does not either when the shift keeps the ratio R.

        Against itself: R is exp(s_w - s_l), or exp(a_w - a_l), so equal shifts (per token) cancel in it.
        """
        plain = loss_of(method)
        per_token = method.balance == "per_token"
        w, r = (2.0 * CHOSEN_LENGTHS, 2.0 * REJECTED_LENGTHS) if per_token else (2.0, 2.0)
        kept = loss_of(method, CHOSEN + w, REJECTED + r, REF_CHOSEN + w, REF_REJECTED + r)
        torch.testing.assert_close(kept.loss, plain.loss, rtol=1e-12, atol=1e-12)
        other = loss_of(method, CHOSEN + 1, REJECTED - 1, REF_CHOSEN + 1, REF_REJECTED - 1)
        torch.testing.assert_close(other.chosen_rewards, plain.chosen_rewards, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(other.rejected_rewards, plain.rejected_rewards, rtol=1e-12, atol=1e-12)
        if method.placement == "gradient":
            torch.testing.assert_close(other.loss, plain.loss, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("method", [m for m in BALANCED if m.balance == "per_token"], ids=str)
    def test_equal_per_token_probabilities_leave_dpo(self, method: Method) -> None:
        """Against DPO, loss and gradients: a_w = a_l makes R = 1 (reference too, so for every option)."""
        chosen, rejected = leaves(-0.5 * CHOSEN_LENGTHS.double(), -0.5 * REJECTED_LENGTHS.double())
        reference = (-0.75 * CHOSEN_LENGTHS.double(), -0.75 * REJECTED_LENGTHS.double())
        ours, dpo = (
            loss_of(method, chosen, rejected, *reference),
            loss_of("dpo", chosen, rejected, *reference),
        )
        torch.testing.assert_close(ours.loss, dpo.loss, rtol=1e-14, atol=0)
        for a, b in zip(
            torch.autograd.grad(ours.loss.sum(), [chosen, rejected]),
            torch.autograd.grad(dpo.loss.sum(), [chosen, rejected]),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-14, atol=0)

    @settings(deadline=None, max_examples=60)
    @given(
        values=st.lists(st.floats(-30, 0), min_size=4, max_size=4),
        lengths=st.tuples(st.integers(1, 40), st.integers(1, 40)),
        number=st.integers(0, len(BALANCED) - 1),
    )
    def test_swapping_the_responses(self, values: list[float], lengths: tuple[int, int], number: int) -> None:
        """Against sigmoid(h) + sigmoid(-h) = 1: swapped, h turns its sign and R becomes 1/R.

        `chosen` and `rejected` normalisation are each other's mirror image, the other two their own.
        """
        method = BALANCED[number]
        mirror = {"chosen": "rejected", "rejected": "chosen"}.get(method.normalization, method.normalization)
        s_w, s_l, ref_w, ref_l = (f64(v) for v in values)
        n_w, n_l = torch.tensor(lengths[:1]), torch.tensor(lengths[1:])
        one = loss_of(method, s_w, s_l, ref_w, ref_l, n_w, n_l)
        other = loss_of(method.model_copy(update={"normalization": mirror}), s_l, s_w, ref_l, ref_w, n_l, n_w)
        assert (torch.exp(-one.loss) + torch.exp(-other.loss)).item() == pytest.approx(1, rel=1e-9)
        assert other.chosen_coefficient.item() == pytest.approx(one.rejected_coefficient.item(), rel=1e-9)
        assert other.log_gradient_ratio.item() == pytest.approx(-one.log_gradient_ratio.item(), abs=1e-6)
        assert one.clipped.item() == other.clipped.item()


class TestGradients:
    @pytest.mark.parametrize("method", [m for m in UNCLIPPED if not m.balance_reference], ids=str)
    def test_balanced_in_probability(self, method: Method) -> None:
        """Against autograd in p: |dL/dp_w| = |dL/dp_l| to 1e-9.

        p is the balanced quantity itself: exp(s) for "sequence", and exp(a) for "per_token" with equal lengths
        (s = n log p brings the same n to both sides).
        """
        n = torch.full((4,), 1 if method.balance == "sequence" else 7)
        p_w, p_l = leaves(f64(0.5, 0.01, 0.9, 0.2), f64(0.3, 0.4, 0.001, 0.2))
        loss_of(
            method, n * p_w.log(), n * p_l.log(), f64(-2, -3, -4, -5), f64(-1, -2, -3, -1), n, n
        ).loss.sum().backward()
        torch.testing.assert_close(p_w.grad.abs(), p_l.grad.abs(), rtol=1e-9, atol=0)
        assert (p_w.grad < 0).all()
        assert (p_l.grad > 0).all()

    @pytest.mark.parametrize(
        "method", [m for m in UNCLIPPED if m.balance == "per_token" and not m.balance_reference], ids=str
    )
    @pytest.mark.parametrize("seed", [0, 1])
    def test_per_token_balance_equalises_the_typical_token(self, method: Method, seed: int) -> None:
        """Against autograd in every single token's probability, for responses of unequal length."""
        tokens_w, tokens_l = token_probabilities(seed)
        result = loss_of(method, sums(tokens_w), sums(tokens_l))
        result.loss.sum().backward()
        torch.testing.assert_close(
            geometric_gradient(tokens_w), geometric_gradient(tokens_l), rtol=1e-9, atol=0
        )
        torch.testing.assert_close(result.log_gradient_ratio, torch.zeros(4).double(), rtol=0, atol=1e-12)

    @pytest.mark.parametrize(
        "method", [m for m in UNCLIPPED if m.balance == "per_token" and m.balance_reference], ids=str
    )
    def test_balance_by_the_reference_too(self, method: Method) -> None:
        """Against autograd in each token's pi / pi_ref, which `balance_reference` balances in place of pi."""
        tokens_w, tokens_l = token_probabilities(2)
        reference = (-0.4 * CHOSEN_LENGTHS.double(), -0.9 * REJECTED_LENGTHS.double())
        loss_of(
            method, sums(tokens_w) + reference[0], sums(tokens_l) + reference[1], *reference
        ).loss.sum().backward()
        torch.testing.assert_close(
            geometric_gradient(tokens_w), geometric_gradient(tokens_l), rtol=1e-9, atol=0
        )

    @pytest.mark.parametrize("method", EVERY, ids=str)
    def test_the_reported_ratio_is_what_autograd_measures(self, method: Method) -> None:
        """Against autograd: log of the ratio of the geometric means over tokens, clipped or not, DPO included."""
        tokens_w, tokens_l = token_probabilities(3)
        result = loss_of(method, sums(tokens_w), sums(tokens_l))
        result.loss.sum().backward()
        measured = geometric_gradient(tokens_w).log() - geometric_gradient(tokens_l).log()
        torch.testing.assert_close(result.log_gradient_ratio, measured, rtol=0, atol=1e-9)

    @pytest.mark.parametrize(
        "method",
        [m for m in BALANCED if m.clip == 1.5 and m.balance == "per_token" and not m.balance_reference],
        ids=str,
    )
    def test_a_binding_clip_leaves_clipped_over_whole_ratio(self, method: Method) -> None:
        """Against autograd: the geometric means' ratio is R_clipped / R (docs/audit.md)."""
        tokens_w, tokens_l = token_probabilities(4)
        result = loss_of(method, sums(tokens_w), sums(tokens_l))
        result.loss.sum().backward()
        whole = torch.exp(sums(tokens_w) / CHOSEN_LENGTHS - sums(tokens_l) / REJECTED_LENGTHS).detach()
        clipped = whole.clamp(1 / 1.5, 1.5)
        assert torch.equal(result.clipped, clipped != whole)
        assert result.clipped.any()
        measured = geometric_gradient(tokens_w) / geometric_gradient(tokens_l)
        torch.testing.assert_close(measured, clipped / whole, rtol=1e-9, atol=0)

    def test_dpo_pushes_the_likelier_response_less(self) -> None:
        """Against Feng et al. 2024 (arXiv 2404.04626): |dL/dp_w| / |dL/dp_l| = p_l / p_w."""
        p_w, p_l = leaves(f64(0.5), f64(0.1))
        one = torch.tensor([1])
        loss_of("dpo", p_w.log(), p_l.log(), f64(-1), f64(-1), one, one).loss.backward()
        assert (p_w.grad / p_l.grad).abs().item() == pytest.approx(0.1 / 0.5, rel=1e-12)

    def test_two_tokens_by_hand(self) -> None:
        """Against a calculation on paper.

        chosen tokens 0.9, 0.4 (geometric mean 0.6), rejected 0.1, 0.9 (0.3), reference 0.5 each: R = 2,
        c = (sqrt 2, 1 / sqrt 2), r_w = log(0.36 / 0.25), r_l = log(0.09 / 0.25).
        """
        w, r = leaves(f64(0.9, 0.4), f64(0.1, 0.9))
        two, reference = torch.tensor([2]), f64(2 * math.log(0.5))
        result = loss_of(
            "adadpo", w.log().sum()[None], r.log().sum()[None], reference, reference, two, two, beta=0.5
        )
        result.loss.backward()
        h = 0.5 * (math.sqrt(2) * math.log(0.36 / 0.25) - math.log(0.09 / 0.25) / math.sqrt(2))
        pull = 0.5 / (1 + math.exp(h))
        assert result.loss.item() == pytest.approx(math.log1p(math.exp(-h)), rel=1e-12)
        assert w.grad.tolist() == pytest.approx([-pull * math.sqrt(2) / p for p in (0.9, 0.4)], rel=1e-12)
        assert r.grad.tolist() == pytest.approx([pull / math.sqrt(2) / p for p in (0.1, 0.9)], rel=1e-12)

    @pytest.mark.parametrize("method", EVERY, ids=str)
    def test_no_gradient_through_the_coefficients(self, method: Method) -> None:
        """Against central differences of -log sigmoid(beta (c_w r_w - c_l r_l)) with c frozen at its value.

        `gradient` placement: c multiplies the base loss's own differences.
        """
        chosen, rejected = leaves(CHOSEN, REJECTED)
        result = loss_of(method, chosen, rejected)
        assert [name for name in result._fields if getattr(result, name).requires_grad] == ["loss"]
        found = torch.autograd.grad(result.loss.sum(), [chosen, rejected])
        c_w, c_l = result.chosen_coefficient, result.rejected_coefficient
        inner = (1.0, 1.0) if method.placement == "gradient" else (c_w, c_l)
        outer = (c_w, c_l) if method.placement == "gradient" else (1.0, 1.0)

        def frozen(s_w: Tensor, s_l: Tensor) -> Tensor:
            h = method.beta * (inner[0] * (s_w - REF_CHOSEN) - inner[1] * (s_l - REF_REJECTED))
            return -F.logsigmoid(h)

        step = 1e-6
        expected_w = (
            outer[0] * (frozen(CHOSEN + step, REJECTED) - frozen(CHOSEN - step, REJECTED)) / (2 * step)
        )
        expected_l = (
            outer[1] * (frozen(CHOSEN, REJECTED + step) - frozen(CHOSEN, REJECTED - step)) / (2 * step)
        )
        # A sequence ratio without clip reaches exp(19): differences of so large a loss keep fewer digits.
        scale = 1 + max(1.0, c_w.max().item(), c_l.max().item())
        torch.testing.assert_close(found[0], expected_w, rtol=1e-6, atol=1e-8 * scale)
        torch.testing.assert_close(found[1], expected_l, rtol=1e-6, atol=1e-8 * scale)


class TestCoefficients:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
    @pytest.mark.parametrize("method", [m for m in BALANCED if m.placement == "gradient"], ids=str)
    def test_gradient_placement_keeps_the_base_loss_s_value(self, method: Method, dtype: torch.dtype) -> None:
        """Against DPO's value, bit for bit, also where an unclipped c is astronomically large."""
        values = [v.to(dtype) for v in (10 * CHOSEN, 20 * REJECTED, REF_CHOSEN, REF_REJECTED)]
        assert torch.equal(loss_of(method, *values).loss, loss_of("dpo", *values).loss)

    @settings(deadline=None, max_examples=40)
    @given(log_ratio=st.floats(-29, 29), clip=st.none() | st.floats(1.01, 100))
    def test_every_normalization_keeps_the_ratio(self, log_ratio: float, clip: float | None) -> None:
        """Against docs/methods.md, the row "normalization": the pairs as they are written there."""
        ratio = math.exp(log_ratio) if clip is None else min(max(math.exp(log_ratio), 1 / clip), clip)
        expected = {
            "geometric": (math.sqrt(ratio), 1 / math.sqrt(ratio)),
            "chosen": (ratio, 1),
            "rejected": (1, 1 / ratio),
            "mean": (2 * ratio / (1 + ratio), 2 / (1 + ratio)),
        }
        for name, (c_w, c_l) in expected.items():
            found = coefficients(make_method("adadpo", clip=clip, normalization=name), f64(log_ratio))
            assert found.chosen.item() == pytest.approx(c_w, rel=1e-9)
            assert found.rejected.item() == pytest.approx(c_l, rel=1e-9)

    def test_sequence_and_per_token_ratios(self) -> None:
        """Against exp(s_w - s_l) and exp(a_w - a_l) by hand: s = (-6, -8), n = (2, 8), so a = (-3, -1)."""
        numbers = {"chosen": f64(-6), "rejected": f64(-8), "ref_chosen": f64(-6), "ref_rejected": f64(-8)}
        lengths = {"chosen_lengths": torch.tensor([2]), "rejected_lengths": torch.tensor([8])}
        for balance, log_ratio in (("sequence", 2.0), ("per_token", -2.0)):
            result = loss_of("dpo", **numbers, **lengths, balance=balance, clip=None)
            found = (result.chosen_coefficient / result.rejected_coefficient).log().item()
            assert found == pytest.approx(log_ratio, rel=1e-12)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
    def test_finite_to_minus_ten_thousand_nats(self, dtype: torch.dtype) -> None:
        """Against finiteness: every option, every sign of the difference, loss and gradients."""
        extremes = list(itertools.product((0.0, -1.0, -1e4), repeat=4))
        columns = [torch.tensor(column, dtype=dtype) for column in zip(*extremes, strict=True)]
        one, many = torch.ones(len(extremes), dtype=torch.long), torch.full((len(extremes),), 1000)
        for method, lengths in itertools.product(EVERY, ((one, one), (one, many), (many, one))):
            chosen, rejected = leaves(*columns[:2])
            result = loss_of(method, chosen, rejected, *columns[2:], *lengths)  # type: ignore[call-arg]
            assert result.loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            gradients = torch.autograd.grad(result.loss.sum(), [chosen, rejected])
            for value in (*result, *gradients):
                assert torch.isfinite(value.double()).all(), (method, lengths)

    def test_bfloat16_is_widened_before_subtraction(self) -> None:
        """Against float64 arithmetic on the same bfloat16 inputs: only the result is rounded, to float32."""
        values = [torch.tensor([v]).bfloat16() for v in (-301.0, -257.0, -300.0, -258.0)]
        n = torch.tensor([100])
        exact = loss_of("adadpo", *(v.double() for v in values), n, n).loss  # type: ignore[call-arg]
        assert loss_of("adadpo", *values, n, n).loss.item() == pytest.approx(exact.item(), rel=1e-6)  # type: ignore[call-arg]

    def test_without_clip_the_ratio_stays_a_number(self) -> None:
        """Against balance.py: no clip means no bound below exp(30), beyond which squares would leave float32."""
        found = coefficients(make_method("adadpo", clip=None), f64(29.0, 31.0, -1e4))
        assert found.clipped.tolist() == [False, True, True]
        assert found.chosen.log().tolist() == pytest.approx(
            [29 / 2, LARGEST_LOG_RATIO / 2, -LARGEST_LOG_RATIO / 2]
        )
