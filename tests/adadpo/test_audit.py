"""The gradient audit against autograd through the real loss: in probabilities, logits and parameters, in float64."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adadpo.config import Lora, TrainSettings
from adadpo.data.tokens import TokenPairs, tokenize_pairs
from adadpo.errors import ModelError
from adadpo.gradient_audit.gradients import (
    Measurement,
    ParameterGradients,
    Responses,
    gradient_pairs,
    inner,
    measure_gradients,
    measure_pairs,
    policy_in_training,
    token_numbers,
    work_of,
)
from adadpo.gradient_audit.ratios import (
    cosine_of_terms,
    promised,
    stage_ratios,
    stages_of,
    trained_stage,
)
from adadpo.method.losses import preference_loss
from adadpo.method.registry import LOSSES, PRESETS, Method, make_method
from adadpo.models.policy import Base, save_policy
from adadpo.training.reference import pair_logps
from tests.adadpo.adadpo_examples import chats

LENGTH = 44
OPTIONS: dict[str, Any] = {"pad_token_id": 0, "max_length": LENGTH}
# Beside every preset: each option that changes what is balanced, and scales that leave nothing saturated.
METHODS = [
    *(
        make_method(name, **({"beta": 0.3} if LOSSES[name.removeprefix("ada")].beta > 1 else {}))
        for name in PRESETS
    ),
    make_method("adadpo", clip=1.01, normalization="mean"),
    make_method("adadpo", clip=None, placement="gradient"),
    make_method("adadpo", balance_reference=True, normalization="chosen"),
    make_method("dpo", balance="sequence", clip=2.0),
    make_method("ipo", balance="sequence", clip=None),
]


AVERAGED = ("ipo", "simpo", "orpo")  # docs/methods.md: their score is a mean over tokens
RATIOS = ("probability", "geometric_mean", "arithmetic_mean", "logits", "parameters")


@pytest.fixture(scope="module")
def pairs(base: Base) -> TokenPairs:
    """Five pairs of varied lengths, some of them cut at `LENGTH`."""
    found = tokenize_pairs(chats(5), base.tokenizer, LENGTH)
    assert 0 < found.truncated < 5
    return found


@pytest.fixture(scope="module")
def models(base: Base) -> tuple[Any, Any]:
    """A policy and its reference, float64: the tiny model, and itself before a step."""
    from adadpo.models.load import load_model

    reference = load_model(base.source, "float64")
    policy = load_model(base.source, "float64")
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
    for model in (policy, reference):
        for module in model.modules():
            if hasattr(module, "variance_epsilon"):  # transformers' own RMSNorm computes in float32
                module.forward = functools.partial(exact_rms_norm, module)
    return policy, reference


def exact_rms_norm(module: Any, hidden: Tensor) -> Tensor:
    return (
        module.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + module.variance_epsilon)
    )


@pytest.fixture(scope="module")
def measured(
    models: tuple[Any, Any], pairs: TokenPairs
) -> tuple[Measurement, Measurement, ParameterGradients]:
    policy, reference = (measure_pairs(model, pairs, batch_size=3, **OPTIONS) for model in models)
    return policy, reference, measure_gradients(models[0], pairs, range(len(pairs)), **OPTIONS)


def rows(pairs: TokenPairs, index: int) -> Iterator[tuple[Tensor, int]]:
    """Ids of prompt and response, cut, and where the response starts."""
    prompt = pairs.prompt_ids[index]
    for response in (pairs.chosen_ids[index], pairs.rejected_ids[index]):
        yield torch.tensor((prompt + response)[:LENGTH]), len(prompt)


def logits_of(model: Any, ids: Tensor, start: int) -> Tensor:
    """Transformers' own forward pass of one row without padding."""
    return model(input_ids=ids[None]).logits[0, start - 1 : -1].double()


def logps_from(logits: Tensor, ids: Tensor, start: int) -> Tensor:
    return torch.log_softmax(logits, dim=-1).gather(1, ids[start:, None]).squeeze(1)


def pairwise(method: Method, s: list[Tensor], n: list[int], reference: list[Tensor]) -> Tensor:
    """The loss that trains, without the NLL of CPO and ORPO."""
    loss = preference_loss(
        method,
        chosen_logps=s[0][None],
        rejected_logps=s[1][None],
        chosen_lengths=torch.tensor([n[0]]),
        rejected_lengths=torch.tensor([n[1]]),
        reference_chosen_logps=reference[0][None],
        reference_rejected_logps=reference[1][None],
    ).loss.sum()
    return loss + {"cpo": method.cpo_alpha, "orpo": 1.0}.get(method.loss, 0.0) * s[0] / n[0]


def by_autograd(method: Method, models: tuple[Any, Any], pairs: TokenPairs, index: int) -> dict[str, float]:
    """The five log ratios and the cosine of one pair."""
    policy, reference = models
    sides = list(rows(pairs, index))
    n = [len(ids) - start for ids, start in sides]
    with torch.no_grad():
        fixed = [logps_from(logits_of(reference, *side), *side).sum() for side in sides]
        logits = [logits_of(policy, *side) for side in sides]

    # Probabilities as leaves.
    tokens = [
        logps_from(each, *side).exp().requires_grad_() for each, side in zip(logits, sides, strict=True)
    ]
    loss = pairwise(method, [each.log().sum() for each in tokens], n, fixed)
    in_tokens = [gradient.abs() for gradient in torch.autograd.grad(loss, tokens)]
    geometric = [gradient.log().mean().item() for gradient in in_tokens]
    arithmetic = [gradient.mean().log().item() for gradient in in_tokens]

    # Logits as leaves.
    leaves = [each.clone().requires_grad_() for each in logits]
    s = [logps_from(each, *side).sum() for each, side in zip(leaves, sides, strict=True)]
    in_logits = [g.norm().log().item() for g in torch.autograd.grad(pairwise(method, s, n, fixed), leaves)]

    # Parameters: each term is the loss with the other response held still.
    parameters = list(policy.parameters())
    s = [logps_from(logits_of(policy, *side), *side).sum() for side in sides]
    terms = [
        torch.cat(
            [
                g.flatten()
                for g in torch.autograd.grad(pairwise(method, held, n, fixed), parameters, retain_graph=True)
            ]
        )
        for held in ([s[0], s[1].detach()], [s[0].detach(), s[1]])
    ]
    return {
        "geometric_mean": geometric[0] - geometric[1],
        "arithmetic_mean": arithmetic[0] - arithmetic[1],
        "logits": in_logits[0] - in_logits[1],
        "parameters": (terms[0].norm() / terms[1].norm()).log().item(),
        "cosine": torch.nn.functional.cosine_similarity(*terms, dim=0).item(),
    }


@pytest.mark.parametrize("method", METHODS, ids=lambda method: str(method.identity()))
def test_ratios_equal_autograd_through_the_loss(
    method: Method,
    models: tuple[Any, Any],
    pairs: TokenPairs,
    measured: tuple[Measurement, Measurement, ParameterGradients],
) -> None:
    """Against preference_loss differentiated in token probabilities, logits and all weights, pair by pair."""
    policy, fixed, gradients = measured
    reference = fixed if method.needs_reference else None
    everything = torch.arange(len(pairs))
    found = stage_ratios(method, policy, reference, gradients, everything)
    cosine = cosine_of_terms(method, policy, reference, gradients, everything)
    assert tuple(found.log_ratios) == RATIOS
    for index in range(len(pairs)):
        expected = by_autograd(method, models, pairs, index)
        for name in RATIOS[1:]:
            assert found.log_ratios[name][index].item() == pytest.approx(expected[name], abs=1e-9), name
        assert cosine[index].item() == pytest.approx(expected["cosine"], abs=1e-9)


def test_probability_ratio_is_the_losses_own(
    measured: tuple[Measurement, Measurement, ParameterGradients],
) -> None:
    """Against PreferenceLoss.log_gradient_ratio, which training logs."""
    policy, reference, _ = measured
    for name in PRESETS:
        method = make_method(name)
        logged = preference_loss(
            method,
            chosen_logps=policy.chosen.logps,
            rejected_logps=policy.rejected.logps,
            chosen_lengths=policy.chosen.lengths,
            rejected_lengths=policy.rejected.lengths,
            reference_chosen_logps=reference.chosen.logps,
            reference_rejected_logps=reference.rejected.logps,
        )
        found = stage_ratios(method, policy, reference if method.needs_reference else None)
        assert torch.equal(found.log_ratios["probability"], logged.log_gradient_ratio)
        assert torch.equal(found.clipped, logged.clipped)
        assert "parameters" not in found.log_ratios


def test_what_is_promised_holds_and_nothing_else_is(
    measured: tuple[Measurement, Measurement, ParameterGradients],
) -> None:
    """Promised ratios are 1 to 1e-9 on a real model; what is not promised differs from 1 on some pair."""
    policy, reference, gradients = measured
    everything = torch.arange(len(policy.chosen.logps))
    for name, loss in LOSSES.items():
        for method in stages_of(make_method(name)).values():
            if method.clip is not None and method.balance != "none":
                method = method.model_copy(update={"clip": 1e6})
            fixed = reference if method.needs_reference else None
            found = stage_ratios(method, policy, fixed, gradients, everything).log_ratios
            held = {ratio for ratio, values in found.items() if values.abs().max() < 1e-9}
            assert held == set(promised(method)), (name, method)
        assert loss.can_balance == ("per_token" in stages_of(make_method(name)))


def test_averaged_losses_are_those_whose_score_is_a_mean(
    measured: tuple[Measurement, Measurement, ParameterGradients],
) -> None:
    """For them the token's ratio is the probability's times n_l / n_w, for all others the same."""
    policy, reference, _ = measured
    lengths = policy.rejected.lengths.double().log() - policy.chosen.lengths.double().log()
    assert lengths.abs().max() > 0
    for name, loss in LOSSES.items():
        found = stage_ratios(
            make_method(name), policy, reference if loss.needs_reference else None
        ).log_ratios
        shift = found["geometric_mean"] - found["probability"]
        expected = lengths if name in AVERAGED else torch.zeros_like(lengths)
        assert torch.allclose(shift, expected, atol=1e-9), name


def test_clipped_pairs_keep_the_clipped_ratio() -> None:
    """docs/audit.md: where the clip binds, the ratio is R_clipped / R. Token by token, by hand."""
    a_w, a_l = math.log(0.9), math.log(0.05)  # R = 18, clipped to 10
    side = [
        Responses(
            torch.tensor([3 * a], dtype=torch.float64),
            torch.tensor([3]),
            torch.tensor([-a], dtype=torch.float64),
            torch.zeros(1, dtype=torch.float64),
        )
        for a in (a_w, a_l)
    ]
    policy = Measurement(*side)
    found = stage_ratios(make_method("adadpo"), policy, policy)
    assert found.clipped.item() is True
    for name in ("probability", "geometric_mean", "arithmetic_mean"):
        assert found.log_ratios[name].exp().item() == pytest.approx(10 / 18, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e4, 0), min_size=4, max_size=4),
    st.lists(st.integers(0, 50), min_size=2, max_size=2),
    st.sampled_from(METHODS),
)
def test_ratios_are_finite_or_undefined(logps: list[float], lengths: list[int], method: Method) -> None:
    """Any log-probabilities down to -1e4 and any lengths: a ratio is a number or NaN, and NaN for an empty response."""

    def side(logp: float, length: int) -> Responses:
        mean = torch.tensor([-logp / length if length else math.nan], dtype=torch.float64)
        return Responses(torch.tensor([logp], dtype=torch.float64), torch.tensor([length]), mean, 0 * mean)

    policy = Measurement(side(logps[0], lengths[0]), side(logps[1], lengths[1]))
    fixed = Measurement(side(logps[2], lengths[0]), side(logps[3], lengths[1]))
    gradients = ParameterGradients(*torch.zeros(2, 1, dtype=torch.float64))
    reference = fixed if method.needs_reference else None
    for stage in stages_of(method).values():
        found = stage_ratios(stage, policy, reference, gradients, torch.tensor([0]))
        assert not any(values.isinf().any() for values in found.log_ratios.values())
        if 0 in lengths:
            assert all(
                values.isnan().all() for name, values in found.log_ratios.items() if name != "parameters"
            )
        else:
            assert found.log_ratios["probability"].isfinite().all()


def test_stages() -> None:
    """Against the stages of docs/audit.md, and the arm's own options in each."""
    method = make_method("adadpo", clip=5.0, beta=0.2, normalization="mean")
    stages = stages_of(method)
    assert list(stages) == ["base", "sequence", "per_token", "per_token_clipped"]
    assert [(s.balance, s.clip, s.beta) for s in stages.values()] == [
        ("none", 10.0, 0.2), ("sequence", None, 0.2), ("per_token", None, 0.2), ("per_token", 5.0, 0.2),
    ]  # fmt: skip
    assert stages["per_token_clipped"].normalization == "mean"
    assert trained_stage(method) == "per_token_clipped"
    assert stages_of(make_method("dpo"))["per_token_clipped"].clip == 10.0
    assert trained_stage(make_method("dpo")) == "base"
    assert list(stages_of(make_method("sppo"))) == ["base"]
    assert trained_stage(make_method("dpop")) == "base"
    clipped = make_method("dpo", balance="sequence", clip=2.0)
    assert stages_of(clipped)["as_trained"] == clipped
    assert trained_stage(clipped) == "as_trained"
    assert trained_stage(make_method("dpo", balance="sequence", clip=None)) == "sequence"
    assert trained_stage(make_method("adadpo", clip=None)) == "per_token_clipped"
    for name in PRESETS:
        assert (
            stages_of(make_method(name))[trained_stage(make_method(name))].identity()
            == make_method(name).identity()
        )


def test_measured_logps_are_the_evaluation_passs(base: Base, pairs: TokenPairs) -> None:
    """Against reference.pair_logps in float32, in batches with padding."""
    found = measure_pairs(base.model, pairs, batch_size=2, **OPTIONS)
    expected = pair_logps(base.model, pairs, batch_size=2, **OPTIONS)
    for side, name in zip(found, ("chosen", "rejected"), strict=True):
        assert torch.allclose(side.logps, expected[name].double(), rtol=1e-6)
        assert torch.equal(side.lengths, expected[f"{name}_lengths"])


@pytest.mark.parametrize("gap", [0.0, 5.0, 40.0, 200.0])
def test_logits_norm_without_cancellation(base: Base, gap: float) -> None:
    """||onehot - p|| of a token that is `gap` nats ahead, against the same in float64 from the tail's sum."""

    class Plain:
        config = base.model.config

        @staticmethod
        def get_output_embeddings() -> Any:
            return lambda hidden: hidden

    logits = torch.randn(1, base.model.config.vocab_size, generator=torch.Generator().manual_seed(1))
    logits[0, 3] = logits.max() + gap
    logp, square = token_numbers(Plain(), logits, torch.tensor([3]))
    p = torch.softmax(logits.double(), 1)[0]
    others = torch.cat([p[:3], p[4:]])
    assert square.item() == pytest.approx((others.sum() ** 2 + (others**2).sum()).item(), rel=1e-5)
    assert logp.item() == pytest.approx(torch.log1p(-others.sum()).item(), rel=1e-5)


class TestCost:
    def test_tokens_are_counted(self, base: Base, pairs: TokenPairs) -> None:
        """Work against the tokens that really pass: ids into the model, and rows whose backward pass is run."""
        import copy

        model = copy.deepcopy(base.model).requires_grad_(True)
        seen = {"forward": 0, "backward": 0}

        def forward(module: Any, args: Any, output: Tensor) -> None:
            seen["forward"] += int((args[0] != 0).sum())  # 0 is padding here, and in no text
            if output.requires_grad:
                tokens = args[0].numel()
                output.register_hook(lambda _: seen.__setitem__("backward", seen["backward"] + tokens))

        model.get_input_embeddings().register_forward_hook(forward)
        chosen = gradient_pairs(pairs, LENGTH, np.random.default_rng(0), trained_share=0)
        assert 0 < len(chosen) < len(pairs)
        work = work_of(pairs, LENGTH, chosen, trained_share=0)
        pair_logps(model, pairs, **OPTIONS)
        assert seen == {"forward": work.evaluation, "backward": 0}
        seen["forward"] = 0
        measure_pairs(model, pairs, **OPTIONS)
        measure_gradients(model, pairs, chosen, **OPTIONS)
        assert seen == {"forward": work.forward, "backward": work.backward}
        assert work.passes <= 3

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.tuples(*[st.integers(1, 80)] * 3), min_size=1, max_size=120), st.integers(0, 5))
    def test_never_above_three_passes(self, lengths: list[tuple[int, int, int]], seed: int) -> None:
        """Any lengths of prompts and responses; the same seed gives the same pairs."""
        columns = [[[1] * length for length in column] for column in zip(*lengths, strict=True)]
        pairs = TokenPairs(*columns, [], 0)  # type: ignore[call-arg]
        found = gradient_pairs(pairs, 100, np.random.default_rng(seed))
        assert found == gradient_pairs(pairs, 100, np.random.default_rng(seed))
        assert len(set(found)) == len(found) <= 64
        assert work_of(pairs, 100, found).passes <= 2.2 + 1e-9

    def test_another_seed_gives_other_pairs(self) -> None:
        pairs = TokenPairs(*[[[1] * 10] * 200 for _ in range(3)], [], 0)  # type: ignore[call-arg]
        draws = [gradient_pairs(pairs, 100, np.random.default_rng(seed)) for seed in (0, 1)]
        assert draws[0] != draws[1]


class TestPolicies:
    LORA = TrainSettings(precision="float32", lora=Lora(r=2))

    def test_fresh_adapters_have_gradients_in_b_only(self, base: Base, pairs: TokenPairs) -> None:
        """LoRA starts at B = 0: A has no gradient, the ratio is B's, and log-ratios are 0."""
        policy = policy_in_training(base, self.LORA, 0, None)
        names = [name for name, p in policy.named_parameters() if p.requires_grad]
        assert {name.split(".")[-3] for name in names} == {"lora_A", "lora_B"}
        before = measure_pairs(policy, pairs, **OPTIONS)
        assert torch.equal(before.chosen.logps, measure_pairs(base.model, pairs, **OPTIONS).chosen.logps)
        found = measure_gradients(policy, pairs, [0, 1], **OPTIONS)
        for name, parameter in policy.named_parameters():
            parameter.requires_grad_("lora_B" in name)
        alone = measure_gradients(policy, pairs, [0, 1], **OPTIONS)
        assert torch.equal(found.log_norm_ratio, alone.log_norm_ratio)
        assert found.cosine.abs().max() < 1

    @pytest.mark.parametrize("train", [LORA, TrainSettings(precision="float32")], ids=["lora", "full"])
    def test_saved_policies_come_back_trainable(
        self, base: Base, pairs: TokenPairs, train: TrainSettings, tmp_path: Path
    ) -> None:
        """Against the policy that was saved: equal log-probabilities and parameter gradients."""
        policy = policy_in_training(base, train, 0, None)
        with torch.no_grad():
            for number, parameter in enumerate(p for p in policy.parameters() if p.requires_grad):
                parameter += 0.02 * torch.randn(
                    parameter.shape, generator=torch.Generator().manual_seed(number)
                )
        save_policy(policy, tmp_path / "step-2")
        again = policy_in_training(base, train, 0, tmp_path / "step-2")
        for measure in (
            lambda model: measure_pairs(model, pairs, **OPTIONS).chosen.logps,
            lambda model: measure_gradients(model, pairs, [0, 2], **OPTIONS).log_norm_ratio,
        ):
            assert torch.equal(measure(policy), measure(again))

    def test_bfloat16_as_in_training(self, fresh_model: Any, base: Base, pairs: TokenPairs) -> None:
        """Autocast over float32 weights, one context for all pairs: near float32, and every gradient is there."""
        policy = policy_in_training(base, TrainSettings(), 0, None)
        whole = measure_gradients(policy, pairs, range(5), **OPTIONS)
        with torch.autocast("cpu", torch.bfloat16):
            measure_pairs(policy, pairs, **OPTIONS)
        with torch.autocast("cpu", torch.bfloat16):
            found = measure_gradients(policy, pairs, range(5), **OPTIONS)
        assert (found.log_norm_ratio - whole.log_norm_ratio).abs().max() < 0.05
        assert not torch.equal(found.log_norm_ratio, whole.log_norm_ratio)

    def test_nothing_trainable_is_an_error(self, base: Base, pairs: TokenPairs) -> None:
        with pytest.raises(ValueError, match="no trainable parameter"):
            measure_gradients(base.model, pairs, [0], **OPTIONS)

    def test_a_damaged_snapshot_is_named(self, base: Base, tmp_path: Path) -> None:
        (tmp_path / "step-4").mkdir()
        with pytest.raises(ModelError, match="step-4"):
            policy_in_training(base, self.LORA, 0, tmp_path / "step-4")


def test_inner_product_in_blocks() -> None:
    """Against one sum in float64, over tensors longer than a block."""
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        a, b = (
            torch.rand(2**17 + 7, dtype=dtype, generator=torch.Generator().manual_seed(i)) for i in (0, 1)
        )
        expected = (a.double() * b.double()).sum().item() + 6.0
        found = inner([a, torch.ones(3, dtype=dtype)], [b, torch.full((3,), 2.0, dtype=dtype)])
        assert found.item() == pytest.approx(expected, rel=tolerance)
