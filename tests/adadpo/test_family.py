"""Every loss and its Ada forms, by autograd in explicit probabilities, against the table of docs/methods.md."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from adadpo.method.losses import PreferenceLoss, preference_loss
from adadpo.method.registry import LOSSES, PRESETS, Method, make_method

SUMS = ("dpo", "rdpo", "cpo")  # u is linear in s
MEANS = ("ipo", "simpo", "orpo")  # u is a function of s / n
WITH_REFERENCE = ("dpo", "rdpo", "ipo")
BALANCED = SUMS + MEANS
# Losses of moderate size whatever the ratio: nothing saturates, so that every gradient is far from 0.
CALM = {"beta": 0.05}


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def variants(loss: str, **fixed: object) -> Iterator[Method]:
    """Every option of the Ada forms of a loss."""
    options = {
        "balance": ("sequence", "per_token"),
        "clip": (1.5, 10.0, None),
        "normalization": ("geometric", "chosen", "rejected", "mean"),
        "placement": ("margin", "gradient"),
        **({"balance_reference": (False, True)} if loss in WITH_REFERENCE else {}),
        **{name: (value,) for name, value in fixed.items()},
    }
    for values in itertools.product(*options.values()):
        yield make_method(loss, **dict(zip(options, values, strict=True)))


class Pair(NamedTuple):
    """Token probabilities of the two responses, and what the reference gives each response, nats."""

    chosen: Tensor
    rejected: Tensor
    reference_chosen: float
    reference_rejected: float

    @property
    def lengths(self) -> tuple[int, int]:
        return len(self.chosen), len(self.rejected)


PAIRS = [
    Pair(f64(0.7, 0.4, 0.9), f64(0.2, 0.6), -2.0, -1.5),
    Pair(f64(0.05, 0.3), f64(0.8, 0.5, 0.9, 0.6), -4.0, -2.0),
    Pair(f64(0.5), f64(0.5, 0.4, 0.3, 0.2, 0.1), -0.3, -6.5),
    Pair(f64(0.95, 0.9), f64(0.1), -1.0, -1.0),
]


def loss_of(method: Method, s_w: Tensor, s_l: Tensor, n: tuple[int, int], pair: Pair) -> PreferenceLoss:
    return preference_loss(
        method,
        chosen_logps=s_w[None],
        rejected_logps=s_l[None],
        chosen_lengths=torch.tensor([n[0]]),
        rejected_lengths=torch.tensor([n[1]]),
        reference_chosen_logps=f64(pair.reference_chosen),
        reference_rejected_logps=f64(pair.reference_rejected),
    )


def pairwise_term(method: Method, result: PreferenceLoss, s_w: Tensor, n_w: int) -> Tensor:
    """Without CPO's and ORPO's NLL of the chosen response per token, which is not balanced."""
    weight = {"cpo": method.cpo_alpha, "orpo": 1.0}.get(method.loss, 0.0)
    return result.loss.sum() + weight * s_w / n_w


def sensitivity_in_p(
    method: Method, pair: Pair, relative: bool = False
) -> tuple[PreferenceLoss, float, float]:
    """By autograd, of a score of sums the geometric mean over tokens of |dL/dpi(token)|, else |dL/dp| with s = n log p.

    `relative`: probabilities are those relative to the reference's, by which `balance_reference` balances.
    """
    offsets = (pair.reference_chosen, pair.reference_rejected) if relative else (0.0, 0.0)
    n = pair.lengths
    if method.loss in MEANS:
        sides = [
            torch.exp((side.log().sum() - offset) / len(side)).reshape(1).requires_grad_()
            for side, offset in zip(pair[:2], offsets, strict=True)
        ]
        s_w, s_l = (k * side.log().sum() + offset for k, side, offset in zip(n, sides, offsets, strict=True))
    else:
        sides = [
            (side * math.exp(-offset / len(side))).requires_grad_()
            for side, offset in zip(pair[:2], offsets, strict=True)
        ]
        s_w, s_l = (side.log().sum() + offset for side, offset in zip(sides, offsets, strict=True))
    result = loss_of(method, s_w, s_l, n, pair)
    gradients = torch.autograd.grad(pairwise_term(method, result, s_w, n[0]), sides)
    return result, *(gradient.abs().log().mean().exp().item() for gradient in gradients)  # type: ignore[return-value]


def sensitivity_in_sequence(method: Method, pair: Pair) -> tuple[PreferenceLoss, float, float]:
    """By autograd |dL/dP|, P the whole response's probability; with `balance_reference` relative to the reference's."""
    offsets = (pair.reference_chosen, pair.reference_rejected) if method.balance_reference else (0.0, 0.0)
    sides = [
        torch.exp(side.log().sum() - offset).requires_grad_()
        for side, offset in zip(pair[:2], offsets, strict=True)
    ]
    s_w, s_l = (side.log() + offset for side, offset in zip(sides, offsets, strict=True))
    result = loss_of(method, s_w, s_l, pair.lengths, pair)
    gradients = torch.autograd.grad(pairwise_term(method, result, s_w, pair.lengths[0]), sides)
    return result, *(gradient.abs().item() for gradient in gradients)  # type: ignore[return-value]


def ratio_by_the_table(method: Method, pair: Pair) -> float:
    """R: p_w / p_l, for ORPO p_w (1 - p_w) / (p_l (1 - p_l)); p by `balance`, relative to pi_ref when asked for."""
    values = []
    for tokens, reference in zip(pair[:2], (pair.reference_chosen, pair.reference_rejected), strict=True):
        log_p = math.log(math.prod(tokens.tolist())) - (reference if method.balance_reference else 0.0)
        p = math.exp(log_p if method.balance == "sequence" else log_p / len(tokens))
        values.append(p * (1 - p) if method.loss == "orpo" else p)
    return values[0] / values[1]


def clamp(ratio: float, clip: float | None) -> float:
    return ratio if clip is None else min(max(ratio, 1 / clip), clip)


class TestBalance:
    @pytest.mark.parametrize("loss", BALANCED)
    def test_per_token(self, loss: str) -> None:
        """Against autograd in p: |dL/dp_w| / |dL/dp_l| is 1 while the clip does not bind, R_clipped / R when it does.

        R as in the table of docs/methods.md, computed here from the tokens' probabilities.
        """
        bound = []
        for method, pair in itertools.product(variants(loss, balance="per_token", **CALM), PAIRS):
            result, g_w, g_l = sensitivity_in_p(method, pair, relative=method.balance_reference)
            whole = ratio_by_the_table(method, pair)
            expected = clamp(whole, method.clip) / whole
            assert g_w / g_l == pytest.approx(expected, rel=1e-9), (method, pair)
            assert result.clipped.item() is (abs(expected - 1) > 1e-12)
            bound.append(result.clipped.item())
        assert 0 < sum(bound) < len(bound)

    @pytest.mark.parametrize("loss", SUMS)
    def test_sequence(self, loss: str) -> None:
        """Against autograd in the whole response's probability, responses of any length."""
        for method, pair in itertools.product(variants(loss, balance="sequence", **CALM), PAIRS):
            _, g_w, g_l = sensitivity_in_sequence(method, pair)
            whole = ratio_by_the_table(method, pair)
            assert g_w / g_l == pytest.approx(clamp(whole, method.clip) / whole, rel=1e-9), (method, pair)

    @pytest.mark.parametrize("loss", MEANS)
    def test_sequence_of_a_score_of_means(self, loss: str) -> None:
        """Against autograd in the whole response's probability P: what the ratio exp(s_w - s_l) leaves out.

        du/dP is 1 / (n P) for IPO and SimPO, so a factor n_l / n_w is left; for ORPO 1 / (n P (1 - P^(1/n))) where
        the ratio has 1 / (P (1 - P)). Balanced are responses of equal length, for ORPO of one token.
        """
        for method, pair in itertools.product(variants(loss, balance="sequence", **CALM), PAIRS):
            _, g_w, g_l = sensitivity_in_sequence(method, pair)
            whole = ratio_by_the_table(method, pair)
            left = len(pair.rejected) / len(pair.chosen)
            if loss == "orpo":
                for tokens, sign in ((pair.chosen, 1), (pair.rejected, -1)):
                    P = math.prod(tokens.tolist())
                    left *= ((1 - P) / (1 - P ** (1 / len(tokens)))) ** sign
            assert g_w / g_l == pytest.approx(left * clamp(whole, method.clip) / whole, rel=1e-9), (
                method,
                pair,
            )

    @pytest.mark.parametrize("loss", BALANCED)
    def test_one_token_is_a_sequence(self, loss: str) -> None:
        """Against each other, bit for bit: with n = 1 the two balances are one."""
        pair = Pair(f64(0.6), f64(0.3), -1.0, -0.5)
        for method in variants(loss, balance="per_token"):
            other = method.model_copy(update={"balance": "sequence"})
            s = pair.chosen.log().sum(), pair.rejected.log().sum()
            for a, b in zip(loss_of(method, *s, (1, 1), pair), loss_of(other, *s, (1, 1), pair), strict=True):
                assert torch.equal(a, b)

    probability = st.floats(0.02, 0.98)

    @settings(deadline=None, max_examples=150)
    @given(
        loss=st.sampled_from(BALANCED),
        chosen=st.lists(probability, min_size=1, max_size=8),
        rejected=st.lists(probability, min_size=1, max_size=8),
        reference=st.tuples(st.floats(-20, 0), st.floats(-20, 0)),
        clip=st.none() | st.floats(1.01, 50),
        normalization=st.sampled_from(("geometric", "chosen", "rejected", "mean")),
        placement=st.sampled_from(("margin", "gradient")),
        balance_reference=st.booleans(),
        beta=st.floats(0.01, 1),
    )
    def test_per_token_for_any_pair(
        self, loss: str, chosen: list[float], rejected: list[float], reference: tuple[float, float],
        balance_reference: bool, **options: object,
    ) -> None:  # fmt: skip
        """Against autograd in p and the table's R, for any probabilities, lengths and options."""
        if loss in WITH_REFERENCE:
            options["balance_reference"] = balance_reference
        method = make_method(f"ada{loss}", **options)
        pair = Pair(f64(*chosen), f64(*rejected), *reference)
        assume(loss != "orpo" or max(math.prod(t) ** (1 / len(t)) for t in (chosen, rejected)) < 0.97)
        _, g_w, g_l = sensitivity_in_p(method, pair, relative=method.balance_reference)
        assume(min(g_w, g_l) > 1e-8)  # else subtracting the NLL leaves too few digits
        whole = ratio_by_the_table(method, pair)
        assume(method.clip is not None or abs(math.log(whole)) < 29)
        assert g_w / g_l == pytest.approx(clamp(whole, method.clip) / whole, rel=1e-7)

    @pytest.mark.parametrize("preset", PRESETS)
    def test_the_reported_ratio_is_what_autograd_measures(self, preset: str) -> None:
        """Against autograd in p, for every preset and every option, the baselines DPOP and SPPO included."""
        loss = PRESETS[preset]["loss"]
        methods = [make_method(preset, **CALM)]
        methods += variants(loss, **CALM) if preset.startswith("ada") else []
        assert any(method.balance_reference for method in methods) is (preset[3:] in WITH_REFERENCE)
        for method, pair in itertools.product(methods, PAIRS):
            result, g_w, g_l = sensitivity_in_p(method, pair)
            reported = result.log_gradient_ratio.item()
            assert reported == pytest.approx(math.log(g_w / g_l), abs=1e-9), (method, pair)

    def test_both_regimes_of_dpop(self) -> None:
        """Against Pal et al. 2024, equation 3: below the reference the chosen response is pulled 1 + lambda times."""
        s_l, n = f64(-3.0)[0], (2, 2)
        for s_w, factor in ((-1.5, 1 + 50.0), (-0.5, 1.0)):  # the reference has -1
            pair = Pair(f64(0.5, 0.5), f64(0.5, 0.5), -1.0, -2.0)
            found = loss_of(make_method("dpop"), f64(s_w)[0], s_l, n, pair).log_gradient_ratio.item()
            assert found == pytest.approx(math.log(factor) - s_w / 2 + s_l.item() / 2, abs=1e-12)


class TestInvariants:
    @pytest.mark.parametrize("loss", WITH_REFERENCE)
    def test_step_zero(self, loss: str) -> None:
        """Against the base loss on paper where every log-ratio is 0, bit for bit in every Ada form.

        log 2; R-DPO log(1 + exp(-alpha (n_w - n_l))); IPO (1 / (2 beta))^2. No coefficient can matter.
        """
        for pair in PAIRS:
            s_w, s_l = pair.chosen.log().sum(), pair.rejected.log().sum()
            same = pair._replace(reference_chosen=s_w.item(), reference_rejected=s_l.item())
            longer = pair.lengths[0] - pair.lengths[1]
            base = loss_of(make_method(loss), s_w, s_l, pair.lengths, same).loss
            expected = {
                "dpo": math.log(2),
                "rdpo": math.log1p(math.exp(-0.05 * longer)),
                "ipo": (1 / 0.2) ** 2,
            }
            assert base.item() == pytest.approx(expected[loss], rel=1e-14)
            for method in variants(loss):
                assert torch.equal(loss_of(method, s_w, s_l, pair.lengths, same).loss, base)

    @pytest.mark.parametrize("loss", [*WITH_REFERENCE, "dpop", "sppo"])
    def test_a_common_shift(self, loss: str) -> None:
        """Against itself with the same nats added to policy and reference, other nats on the other side.

        Every base loss and every form that balances by pi / pi_ref sees log-ratios alone. Balanced by pi, a loss
        whose coefficients are in the gradient keeps its value; the ratio R itself moves by exp(shift).
        """
        shift_w, shift_l = 0.7, -1.3
        for pair in PAIRS:
            s_w, s_l = pair.chosen.log().sum(), pair.rejected.log().sum()
            moved = pair._replace(
                reference_chosen=pair.reference_chosen + shift_w,
                reference_rejected=pair.reference_rejected + shift_l,
            )
            for method in (make_method(loss), *(variants(loss) if loss in BALANCED else ())):
                plain = loss_of(method, s_w, s_l, pair.lengths, pair)
                shifted = loss_of(method, s_w + shift_w, s_l + shift_l, pair.lengths, moved)
                names = ["chosen_rewards", "rejected_rewards"]
                if method.balance == "none" or method.balance_reference:
                    names += ["loss", "chosen_coefficient", "rejected_coefficient"]
                elif method.placement == "gradient":
                    names += ["loss"]
                for name in names:
                    torch.testing.assert_close(
                        getattr(shifted, name), getattr(plain, name), rtol=1e-11, atol=1e-11
                    )
                if method.balance == "per_token" and not method.balance_reference and method.clip is None:
                    moves = shift_w / pair.lengths[0] - shift_l / pair.lengths[1]
                    c = [(x.chosen_coefficient / x.rejected_coefficient).log() for x in (shifted, plain)]
                    assert (c[0] - c[1]).item() == pytest.approx(moves, rel=1e-9)

    @pytest.mark.parametrize("loss", BALANCED)
    def test_equal_per_token_probabilities_leave_the_base_loss(self, loss: str) -> None:
        """Against the base loss, value and gradients: p_w = p_l makes R = 1, with unequal lengths too."""
        for n in ((4, 4), (2, 8)):
            pair = Pair(
                torch.full((n[0],), 0.6).double(), torch.full((n[1],), 0.6).double(), *(-0.75 * k for k in n)
            )
            found = []
            for method in (make_method(loss), *variants(loss, balance="per_token")):
                s_w, s_l = (f64(k * math.log(0.6))[0].requires_grad_() for k in n)
                value = loss_of(method, s_w, s_l, n, pair).loss
                found.append(
                    (value.item(), *(g.item() for g in torch.autograd.grad(value.sum(), (s_w, s_l))))
                )
            for other in found[1:]:
                assert other == pytest.approx(found[0], rel=1e-14)

    @pytest.mark.parametrize("loss", BALANCED)
    def test_no_gradient_through_the_coefficients(self, loss: str) -> None:
        """Against autograd of the formulas as the papers write them, with the coefficients as plain numbers."""
        for method, pair in itertools.product(variants(loss, **CALM), PAIRS):
            s = [side.log().sum().requires_grad_() for side in pair[:2]]
            result = loss_of(method, *s, pair.lengths, pair)  # type: ignore[call-arg]
            assert [name for name in result._fields if getattr(result, name).requires_grad] == ["loss"]
            c = result.chosen_coefficient.item(), result.rejected_coefficient.item()
            inner, outer = ((1.0, 1.0), c) if method.placement == "gradient" else (c, (1.0, 1.0))
            expected = on_paper(method, s, pair, inner)
            assert result.loss.item() == pytest.approx(sum(expected).item(), rel=1e-12)
            found = torch.autograd.grad(result.loss.sum(), s)
            wanted = torch.autograd.grad(expected[0], s)
            nll = -{"cpo": method.cpo_alpha, "orpo": 1.0}.get(loss, 0.0) / pair.lengths[0]
            assert found[0].item() == pytest.approx(wanted[0].item() * outer[0] + nll, rel=1e-9)
            assert found[1].item() == pytest.approx(wanted[1].item() * outer[1], rel=1e-9)

    @pytest.mark.parametrize("loss", BALANCED)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
    def test_placement_in_the_gradient_keeps_the_value(self, loss: str, dtype: torch.dtype) -> None:
        """Against the base loss bit for bit, also where an unclipped coefficient is astronomically large."""
        s = torch.tensor([-60.0, -80.0, -3.0]).to(dtype), torch.tensor([-240.0, -5.0, -3.5]).to(dtype)
        for method in (make_method(loss), *variants(loss, placement="gradient")):
            values = preference_loss(
                method, chosen_logps=s[0], rejected_logps=s[1], chosen_lengths=torch.tensor([6, 8, 5]),
                rejected_lengths=torch.tensor([8, 4, 4]), reference_chosen_logps=s[0] * 0.7,
                reference_rejected_logps=s[1] * 1.2,
            )  # fmt: skip
            if method.balance == "none":
                base = values.loss
            else:
                assert torch.equal(values.loss, base)


def on_paper(
    method: Method, s: list[Tensor], pair: Pair, c: tuple[float, float]
) -> tuple[Tensor, Tensor | float]:
    """The pairwise term and the NLL term of a loss with coefficients c, written from the papers, no shortcut."""

    def minus_log_sigmoid(x: Tensor) -> Tensor:
        return (1 + (-x).exp()).log()

    n_w, n_l = pair.lengths
    r_w, r_l = s[0] - pair.reference_chosen, s[1] - pair.reference_rejected
    a_w, a_l = s[0] / n_w, s[1] / n_l
    beta = method.beta
    if method.loss == "dpo":
        return minus_log_sigmoid(beta * (c[0] * r_w - c[1] * r_l)), 0.0
    if method.loss == "rdpo":
        # r_theta = beta r + alpha n (Park et al. 2024, equation 8: the reward of the length-penalised optimum)
        return minus_log_sigmoid(
            beta * c[0] * r_w + method.rdpo_alpha * n_w - (beta * c[1] * r_l + method.rdpo_alpha * n_l)
        ), 0.0
    if method.loss == "ipo":
        return (c[0] * r_w / n_w - c[1] * r_l / n_l - 1 / (2 * beta)) ** 2, 0.0
    if method.loss == "cpo":
        return minus_log_sigmoid(beta * c[0] * s[0] - beta * c[1] * s[1]), -method.cpo_alpha * a_w
    if method.loss == "simpo":
        return minus_log_sigmoid(beta * c[0] * a_w - beta * c[1] * a_l - method.simpo_gamma), 0.0
    odds_w, odds_l = (a.exp() / (1 - a.exp()) for a in (a_w, a_l))
    return beta * minus_log_sigmoid(c[0] * odds_w.log() - c[1] * odds_l.log()), -a_w


class TestExtremes:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
    @pytest.mark.parametrize("loss", LOSSES)
    def test_finite(self, loss: str, dtype: torch.dtype) -> None:
        """Against finiteness, -1e4 nats to 0, 0 to 1000 tokens: every option, field, mean of a batch, gradient."""
        extremes = list(itertools.product((0.0, -1e-3, -1e4), repeat=4))
        columns = [torch.tensor(column, dtype=dtype) for column in zip(*extremes, strict=True)]
        lengths = [torch.full((len(extremes),), n) for n in (0, 1, 1000)]
        methods = [make_method(loss), *(variants(loss) if loss in BALANCED else ())]
        for method, n in itertools.product(methods, itertools.product(lengths, repeat=2)):
            s = [column.clone().requires_grad_() for column in columns[:2]]
            result = preference_loss(
                method, chosen_logps=s[0], rejected_logps=s[1], chosen_lengths=n[0], rejected_lengths=n[1],
                reference_chosen_logps=columns[2], reference_rejected_logps=columns[3],
            )  # fmt: skip
            assert result.loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            gradients = torch.autograd.grad(result.loss.mean(), s)
            for value in (*result, result.loss.mean(), *gradients):
                assert torch.isfinite(value.double()).all(), (method, n)

    @settings(deadline=None, max_examples=200)
    @given(
        preset=st.sampled_from(sorted(PRESETS)),
        dtype=st.sampled_from((torch.float16, torch.bfloat16, torch.float32, torch.float64)),
        values=st.lists(st.floats(-1e4, 0), min_size=4, max_size=4),
        n=st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
    )
    def test_finite_anywhere(
        self, preset: str, dtype: torch.dtype, values: list[float], n: tuple[int, int]
    ) -> None:
        """Against finiteness of every preset at any log-probabilities and lengths."""
        s_w, s_l, ref_w, ref_l = (torch.tensor([v], dtype=dtype) for v in values)
        s_w.requires_grad_()
        s_l.requires_grad_()
        result = preference_loss(
            preset, chosen_logps=s_w, rejected_logps=s_l, chosen_lengths=torch.tensor(n[:1]),
            rejected_lengths=torch.tensor(n[1:]), reference_chosen_logps=ref_w, reference_rejected_logps=ref_l,
        )  # fmt: skip
        for value in (*result, *torch.autograd.grad(result.loss.sum(), (s_w, s_l))):
            assert torch.isfinite(value.double()).all()

    def test_a_gradient_beyond_float16_is_its_largest_number(self) -> None:
        """Against IPO's derivative 2 (h - 1 / (2 beta)) / n on paper: 2 (1e4 - 5), but no more than 65504."""
        found = []
        for scale in (1.0, 4.0):
            s = torch.tensor([-1e4 * scale], dtype=torch.float16, requires_grad=True)
            zero, one = torch.zeros(1, dtype=torch.float16), torch.tensor([1])
            preference_loss(
                "ipo", chosen_logps=zero, rejected_logps=s, chosen_lengths=one, rejected_lengths=one,
                reference_chosen_logps=zero, reference_rejected_logps=zero,
            ).loss.backward()  # fmt: skip
            found.append(s.grad.item())
        assert found == [pytest.approx(-2 * (1e4 - 5), rel=1e-3), -65504.0]

    def test_hyperparameters_keep_float64(self) -> None:
        """Against Python floats: a length and a comparison are integers, which must not make the loss float32."""
        s = f64(-6.3), f64(-12.7)
        pair = Pair(f64(*[0.5] * 7), f64(*[0.5] * 4), -7.1, -11.9)
        rdpo = loss_of(make_method("rdpo"), s[0][0], s[1][0], pair.lengths, pair).loss.item()
        margin = 0.1 * ((-6.3 + 7.1) - (-12.7 + 11.9)) + 0.05 * 3
        assert rdpo == pytest.approx(math.log1p(math.exp(-margin)), rel=1e-14)
        below = pair._replace(reference_chosen=-5.0)
        dpop = loss_of(make_method("dpop", dpop_lambda=7.3), s[0][0], s[1][0], pair.lengths, below)
        assert dpop.log_gradient_ratio.item() == pytest.approx(math.log(8.3) + 6.3 / 7 - 12.7 / 4, rel=1e-14)


# Two tokens, A and B. The policy gives A 4/5 and B 1/5, the reference 1/2 each. Chosen: "A". Rejected: "A B".
# p_w = 4/5, p_l = sqrt(4/25) = 2/5, R = 2 (ORPO: (4/25) / (6/25) = 2/3); r_w = log 8/5, r_l = log 16/25.
LOG = math.log
# loss, options -> the loss; with normalization "chosen" the coefficients are (R, 1)
CLOSED_FORMS: list[tuple[str, dict[str, float], float, float]] = [
    # h = log 5/2; 2 log 8/5 - log 16/25 = log 4
    ("dpo", {"beta": 1.0}, LOG(7 / 5), LOG(5 / 4)),
    # one token shorter: minus log 2
    ("rdpo", {"beta": 1.0, "rdpo_alpha": LOG(2)}, LOG(9 / 5), LOG(3 / 2)),
    # log 8/5 - log 4/5 = log 2; 2 log 8/5 - log 4/5 = log 16/5
    ("ipo", {"beta": 0.5}, (LOG(2) - 1) ** 2, (LOG(16 / 5) - 1) ** 2),
    # log 4/5 - log 4/25 = log 5; 2 log 4/5 - log 4/25 = log 4; NLL log 5/4
    ("cpo", {"beta": 1.0}, LOG(6 / 5) + LOG(5 / 4), LOG(5 / 4) + LOG(5 / 4)),
    # the same twice the NLL
    ("cpo", {"beta": 1.0, "cpo_alpha": 2.0}, LOG(6 / 5) + 2 * LOG(5 / 4), LOG(5 / 4) + 2 * LOG(5 / 4)),
    # log 2 - log 2 = 0; 2 log 4/5 - log 2/5 - log 2 = log 4/5
    ("simpo", {"beta": 1.0, "simpo_gamma": LOG(2)}, LOG(2), LOG(9 / 4)),
    # 2 log 2 - log 2: beta multiplies the means, not gamma; 2 log 8/5 - log 2 = log 32/25
    ("simpo", {"beta": 2.0, "simpo_gamma": LOG(2)}, LOG(3 / 2), LOG(57 / 32)),
    # odds 4 and 2/3: log 6; (2/3) log 4 - log 2/3; NLL log 5/4
    ("orpo", {"beta": 1.0}, LOG(7 / 6) + LOG(5 / 4), LOG(1 + 2 / 3 / 4 ** (2 / 3)) + LOG(5 / 4)),
    ("orpo", {"beta": 0.5}, LOG(7 / 6) / 2 + LOG(5 / 4), LOG(1 + 2 / 3 / 4 ** (2 / 3)) / 2 + LOG(5 / 4)),
]


class TestTwoTokens:
    def of(self, method: Method, reference_a: float = 0.5) -> tuple[PreferenceLoss, list[float]]:
        """The loss, and its derivatives in pi(A) of the chosen, pi(A) and pi(B) of the rejected response."""
        a, b = reference_a, 1 - reference_a
        pair = Pair(f64(4 / 5), f64(4 / 5, 1 / 5), LOG(a), LOG(a * b))
        tokens = pair.chosen.clone().requires_grad_(), pair.rejected.clone().requires_grad_()
        result = loss_of(method, tokens[0].log().sum(), tokens[1].log().sum(), (1, 2), pair)
        gradients = torch.autograd.grad(result.loss.sum(), tokens)
        return result, [*gradients[0].tolist(), *gradients[1].tolist()]

    @pytest.mark.parametrize(("loss", "options", "base", "ada"), CLOSED_FORMS, ids=str)
    def test_losses(self, loss: str, options: dict[str, float], base: float, ada: float) -> None:
        """Against fractions on paper, beside each row of the table."""
        assert self.of(make_method(loss, **options))[0].loss.item() == pytest.approx(base, rel=1e-13)
        balanced = make_method(f"ada{loss}", normalization="chosen", **options)
        assert self.of(balanced)[0].loss.item() == pytest.approx(ada, rel=1e-13)

    def test_gradients(self) -> None:
        """Against sigma(-h) c / pi on paper. DPO: sigma = 2/7; AdaDPO: 1/5, and 1/2 on both sides, sqrt(1/4 * 1)."""
        assert self.of(make_method("dpo", beta=1))[1] == pytest.approx([-5 / 14, 5 / 14, 10 / 7], rel=1e-13)
        ada = make_method("adadpo", beta=1, normalization="chosen")
        assert self.of(ada)[1] == pytest.approx([-1 / 2, 1 / 4, 1], rel=1e-13)
        # SimPO, beta 1, gamma log 2: sigma = 1/2, and 1/n; Ada: h = log 4/5, sigma = 5/9, c = (2, 1)
        simpo = {"beta": 1, "simpo_gamma": LOG(2)}
        assert self.of(make_method("simpo", **simpo))[1] == pytest.approx([-5 / 8, 5 / 16, 5 / 4], rel=1e-13)
        ada = make_method("adasimpo", normalization="chosen", **simpo)
        assert self.of(ada)[1] == pytest.approx([-25 / 18, 25 / 72, 25 / 18], rel=1e-13)
        # ORPO: sigma(-log 6) = 1/7; d log odds / dp = 1 / (p (1 - p)) = 25/4 and 25/6, dp_l/dpi = p_l / (2 pi);
        # NLL: -1 / pi(A)
        assert self.of(make_method("orpo", beta=1))[1] == pytest.approx(
            [-25 / 28 - 5 / 4, 25 / 42 * 2 / 5 / 2 * 5 / 4, 25 / 42 * 2 / 5 / 2 * 5], rel=1e-13
        )
        # CPO: sigma(-log 5) = 1/6, NLL as above
        assert self.of(make_method("cpo", beta=1))[1] == pytest.approx(
            [-5 / 24 - 5 / 4, 5 / 24, 5 / 6], rel=1e-13
        )
        # IPO, beta 1/2: 2 (log 2 - 1) / (n pi)
        pull = 2 * (LOG(2) - 1)
        assert self.of(make_method("ipo", beta=0.5))[1] == pytest.approx(
            [pull * 5 / 4, -pull * 5 / 8, -pull * 5 / 2], rel=1e-13
        )

    def test_coefficients(self) -> None:
        """Against R on paper: 2 of the tokens, 5 of the sequences, the others beside each row."""
        for options, ratio in (
            ({}, 2.0),
            ({"clip": 1.5}, 1.5),
            ({"balance": "sequence"}, 5.0),  # 4/5 over 4/25
            ({"balance_reference": True}, 2.0),  # 8/5 over 4/5: the reference has the same p for both
            ({"balance": "sequence", "balance_reference": True}, 5 / 2),  # 8/5 over 16/25
            ({"balance": "sequence", "clip": 3.0}, 3.0),
        ):
            found = self.of(make_method("adadpo", normalization="rejected", **options))[0]
            assert found.chosen_coefficient.item() == 1
            assert found.rejected_coefficient.item() == pytest.approx(1 / ratio, rel=1e-13)
            assert found.clipped.item() is ("clip" in options)
        # ORPO: p (1 - p) is 4/25 over 6/25; of the sequences 4/5 * 1/5 over 4/25 * 21/25
        for balance, ratio in (("per_token", 2 / 3), ("sequence", 25 / 21)):
            found = self.of(make_method("orpo", balance=balance, normalization="chosen"))[0]
            assert found.chosen_coefficient.item() == pytest.approx(ratio, rel=1e-13)

    def test_baselines(self) -> None:
        """Against paper. Reference A 9/10: r_w = log 8/9 < 0, r_l = log 16/9; DPOP lambda 1: h = log 4/9.

        SPPO, beta 1: half the squares of r_w - 1/2 and r_l + 1/2.
        """
        found, gradients = self.of(make_method("dpop", beta=1, dpop_lambda=1), reference_a=0.9)
        assert found.loss.item() == pytest.approx(LOG(13 / 4), rel=1e-13)
        pull = 9 / 13  # sigma(-log 4/9)
        assert gradients == pytest.approx([-pull * 2 * 5 / 4, pull * 5 / 4, pull * 5], rel=1e-13)
        # above the reference there is no penalty: DPO
        assert self.of(make_method("dpop", beta=1))[0].loss.item() == pytest.approx(LOG(7 / 5), rel=1e-13)
        found, gradients = self.of(make_method("sppo", beta=1))
        errors = LOG(8 / 5) - 1 / 2, LOG(16 / 25) + 1 / 2
        assert found.loss.item() == pytest.approx((errors[0] ** 2 + errors[1] ** 2) / 2, rel=1e-13)
        assert gradients == pytest.approx([errors[0] * 5 / 4, errors[1] * 5 / 4, errors[1] * 5], rel=1e-13)
