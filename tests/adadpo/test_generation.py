"""Generation is checked against a loop of plain forwards, log-ratios against full logits, KL against closed forms."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig

from adadpo.config import Decoding, Lora, TrainSettings
from adadpo.data.tokens import encode
from adadpo.generation.divergence import kl_estimates
from adadpo.generation.generate import end_tokens, generate, pad_left, token_log_ratios
from adadpo.generation.responses import Response, cut_response
from adadpo.models.policy import Base, fresh_policy
from tests.adadpo.adadpo_examples import plain_token_logps

PROMPTS = [
    "Give me a tip",
    [{"role": "user", "content": "Why?"}],
    "The morning is",
    [{"role": "user", "content": "Say why it works and keep your answer brief, as a friend should."}],
    "a",
]
GREEDY = Decoding(temperature=0, max_new_tokens=10)
SAMPLED = Decoding(temperature=1.0, max_new_tokens=10, seed=5)


@pytest.fixture
def lively(fresh_model: Any) -> Any:
    """A model whose next token depends on what it has read: the plain one repeats one token."""
    return loud(fresh_model())


def loud(model: Any) -> Any:
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(4)
    return model


def ids_of(responses: list[Response]) -> list[list[int]]:
    return [response.token_ids for response in responses]


def one_by_one(model: Any, tokenizer: Any, prompt: Any, length: int) -> list[int]:
    """The naive loop: no cache, no padding, no batch; ends with the end token."""
    ids = encode(tokenizer, prompt, generation_prompt=True)
    start = len(ids)
    while len(ids) < start + length and (len(ids) == start or ids[-1] != tokenizer.eos_token_id):
        with torch.no_grad():
            ids = [*ids, model(input_ids=torch.tensor([ids])).logits[0, -1].argmax().item()]
    return ids[start:]


class TestGreedy:
    @pytest.mark.parametrize("batch_size", [1, 2, 32])
    def test_the_naive_loop(self, lively: Any, base: Base, batch_size: int) -> None:
        """Against argmax one token at a time, in the order of the prompts, however they are batched and padded."""
        found = generate(
            lively, base.tokenizer, PROMPTS, GREEDY.model_copy(update={"batch_size": batch_size})
        )
        expected = [one_by_one(lively, base.tokenizer, prompt, 10) for prompt in PROMPTS]
        assert ids_of(found) == expected
        assert len({tuple(ids) for ids in expected}) == len(PROMPTS)

    def test_an_end_token_ends(self, lively: Any, base: Base) -> None:
        """Against the naive loop's third token declared an end: it is kept, nothing follows, the text leaves it out."""
        whole = one_by_one(lively, base.tokenizer, PROMPTS[0], 10)
        place = next(i for i, token in enumerate(whole) if i and token not in whole[:i])
        lively.generation_config.eos_token_id = [whole[place]]
        assert end_tokens(lively, base.tokenizer) == sorted({base.tokenizer.eos_token_id, whole[place]})
        # The second prompt goes on: the first one's row is padded behind its end.
        first, second = generate(lively, base.tokenizer, [PROMPTS[0], PROMPTS[2]], GREEDY)
        assert first.token_ids == whole[: place + 1]
        assert first.finished
        assert len(second.token_ids) == 10 or second.finished
        cut = generate(
            lively, base.tokenizer, [PROMPTS[0]], GREEDY.model_copy(update={"max_new_tokens": place})
        )[0]
        assert (cut.token_ids, cut.finished) == (whole[:place], False)
        exact = generate(
            lively, base.tokenizer, [PROMPTS[0]], GREEDY.model_copy(update={"max_new_tokens": place + 1})
        )[0]
        assert (exact.token_ids, exact.finished) == (whole[: place + 1], True)

    def test_the_text_has_no_special_tokens(self, fresh_model: Any, base: Base) -> None:
        """Against the tokenizer's decoding, without the end token and outer spaces."""
        ids = [*base.tokenizer(" Drink water. ")["input_ids"], base.tokenizer.eos_token_id, 0, 0]
        found = cut_response(ids, [base.tokenizer.eos_token_id], base.tokenizer)
        assert (found.text, found.token_ids, found.finished) == ("Drink water.", ids[:-2], True)

    def test_a_model_s_own_settings_do_not_leak_in(self, lively: Any, base: Base) -> None:
        """Against the same model without settings; Qwen2.5, for one, declares a repetition penalty."""
        for decoding in (GREEDY, SAMPLED):
            lively.generation_config = GenerationConfig(eos_token_id=2, pad_token_id=0)
            plain = generate(lively, base.tokenizer, PROMPTS, decoding)
            lively.generation_config = GenerationConfig(
                eos_token_id=2, pad_token_id=0, do_sample=True, temperature=0.1, top_k=2, top_p=0.2, min_p=0.5,
                repetition_penalty=1.9, no_repeat_ngram_size=1, min_length=50, typical_p=0.3,
            )  # fmt: skip
            assert ids_of(generate(lively, base.tokenizer, PROMPTS, decoding)) == ids_of(plain)

    def test_another_engine_s_decoding(self, base: Base) -> None:
        """Against responses that would carry the other engine's name."""
        with pytest.raises(ValueError, match=r"decoding\.engine is 'vllm'"):
            generate(base.model, base.tokenizer, PROMPTS, Decoding(engine="vllm"))

    def test_nothing_to_do(self, base: Base) -> None:
        """Against an empty list."""
        assert generate(base.model, base.tokenizer, [], GREEDY) == []


class TestSampling:
    # NEVER change these without raising sweeps' IDENTITY_VERSION: results on people's disks came from such draws.
    # Identity version 2, by generate itself; torch 2.13 and transformers 5.23 on a CPU.
    GOLDEN = (
        [94, 26, 329, 242, 130, 328, 370, 15, 89, 68],
        [45, 444, 129, 298, 345, 270, 355, 314, 340, 342],
        [329, 175, 361, 72, 99, 452, 349, 168, 144, 397],
        [81, 260, 405, 266, 348, 196, 209, 154, 176, 430],
        [221, 415, 258, 112, 249, 112, 296, 187, 192, 177],
    )
    GOLDEN_IN_PAIRS = (
        [80, 123, 330, 180, 264, 361, 373, 12, 68, 14],
        [25, 451, 254, 257, 298, 357, 383, 331, 279, 367],
        [384, 82, 349, 12, 159, 401, 383, 52, 81, 381],
        [81, 283, 406, 293, 345, 142, 239, 236, 250, 447],
        [210, 400, 218, 145, 251, 148, 264, 132, 141, 286],
    )

    def test_a_seed_s_draws_are_pinned(self, lively: Any, base: Base) -> None:
        """Golden responses, in one batch and in three."""
        assert ids_of(generate(lively, base.tokenizer, PROMPTS, SAMPLED)) == [*self.GOLDEN]
        pairs = SAMPLED.model_copy(update={"batch_size": 2, "temperature": 0.8, "top_p": 0.9})
        assert ids_of(generate(lively, base.tokenizer, PROMPTS, pairs)) == [*self.GOLDEN_IN_PAIRS]

    def test_one_seed_repeats_and_another_differs(self, lively: Any, base: Base) -> None:
        """Against itself; in one batch and in several, of which each has numbers of its own."""
        for batch_size in (2, 32):
            decoding = SAMPLED.model_copy(update={"batch_size": batch_size})
            first = generate(lively, base.tokenizer, PROMPTS, decoding)
            assert generate(lively, base.tokenizer, PROMPTS, decoding) == first
            other = generate(lively, base.tokenizer, PROMPTS, decoding.model_copy(update={"seed": 6}))
            assert ids_of(other) != ids_of(first)

    def test_batches_do_not_share_their_random_numbers(self, lively: Any, base: Base) -> None:
        """Against one prompt asked four times, one a batch: equal numbers would give equal answers."""
        found = generate(lively, base.tokenizer, ["a"] * 4, SAMPLED.model_copy(update={"batch_size": 1}))
        assert len({tuple(ids) for ids in ids_of(found)}) > 1

    def test_the_global_state_neither_matters_nor_changes(self, lively: Any, base: Base) -> None:
        """Against torch's global generator in two states, and its state before."""
        found = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            found.append(ids_of(generate(lively, base.tokenizer, PROMPTS, SAMPLED)))
            assert torch.equal(torch.get_rng_state(), before)
        assert found[0] == found[1]

    def test_what_ran_before_does_not_matter(self, lively: Any, base: Base) -> None:
        """Against other prompts of other lengths generated in between."""
        first = generate(lively, base.tokenizer, PROMPTS[:2], SAMPLED)
        generate(lively, base.tokenizer, PROMPTS[2:], GREEDY)
        assert generate(lively, base.tokenizer, PROMPTS[:2], SAMPLED) == first

    def test_temperature_and_top_p(self, lively: Any, base: Base) -> None:
        """Against greedy: both limits reach it."""
        greedy = ids_of(generate(lively, base.tokenizer, PROMPTS, GREEDY))
        for limit in ({"temperature": 1e-4}, {"top_p": 1e-6}):
            decoding = SAMPLED.model_copy(update=limit)
            assert ids_of(generate(lively, base.tokenizer, PROMPTS, decoding)) == greedy

    def test_samples_follow_the_probabilities(self, base: Base, lively: Any) -> None:
        """Against the softmax of one plain forward: the first token of 2000 samples, within 5 standard errors."""
        decoding = Decoding(temperature=1.0, max_new_tokens=1, batch_size=2000)
        found = generate(lively, base.tokenizer, ["a"] * 2000, decoding)
        with torch.no_grad():
            p = torch.softmax(lively(input_ids=torch.tensor([encode(base.tokenizer, "a")])).logits[0, -1], 0)
        top = p.argmax().item()
        share = sum(response.token_ids == [top] for response in found) / 2000
        assert share == pytest.approx(
            p[top].item(), abs=5 * math.sqrt(p[top].item() * (1 - p[top].item()) / 2000)
        )

    def test_progress(self, lively: Any, base: Base) -> None:
        """Against five prompts, two at a time."""
        seen: list[tuple[int, int]] = []
        decoding = GREEDY.model_copy(update={"batch_size": 2})
        generate(lively, base.tokenizer, PROMPTS, decoding, on_progress=lambda *p: seen.append(p))
        assert seen == [(2, 5), (4, 5), (5, 5)]

    def test_pad_left(self) -> None:
        """Against a padded row by hand."""
        ids, mask = pad_left([[1], [2, 3, 4]], 9)
        assert ids.tolist() == [[9, 9, 1], [2, 3, 4]]
        assert mask.tolist() == [[0, 0, 1], [1, 1, 1]]


class TestLogRatios:
    RESPONSES = (Response("", [7, 8, 9], False), Response("", [], True), Response("", [11], True))

    def test_identical_models_give_exactly_zero(self, base: Base, fresh_model: Any) -> None:
        """Against 0: a copy, and a fresh adapter, whose second matrix is 0."""
        adapter = fresh_policy(base, TrainSettings(precision="float32", lora=Lora(r=2)), seed=1).eval()
        for policy in (fresh_model(), adapter):
            found = token_log_ratios(policy, base.model, base.tokenizer, PROMPTS[:3], self.RESPONSES)
            assert [len(d) for d in found] == [3, 0, 1]
            assert all((d == 0).all() for d in found)

    @pytest.mark.parametrize("batch_size", [1, 2, 16])
    def test_two_models(self, base: Base, lively: Any, batch_size: int) -> None:
        """Against full logits of each sequence alone under both models, in the order of the prompts."""
        found = token_log_ratios(
            lively, base.model, base.tokenizer, PROMPTS[:3], self.RESPONSES, batch_size=batch_size
        )
        for prompt, response, ratios in zip(PROMPTS[:3], self.RESPONSES, found, strict=True):
            if response.token_ids:
                ids = encode(base.tokenizer, prompt, generation_prompt=True)
                with torch.no_grad():
                    expected = plain_token_logps(lively, ids, response.token_ids)
                    expected = expected - plain_token_logps(base.model, ids, response.token_ids)
                torch.testing.assert_close(ratios, expected, rtol=1e-4, atol=1e-4)
                assert ratios.abs().max() > 0.1


class TestKl:
    P, Q = (0.5, 0.3, 0.2), (0.2, 0.2, 0.6)

    def test_closed_form(self) -> None:
        """Against sum p log(p/q): responses of one token, each outcome as often as p says, so the mean is exact.

        The mean of k3's extra term exp(-d) - 1 is sum p (q/p) - 1 = 0.
        """
        d = [math.log(p / q) for p, q in zip(self.P, self.Q, strict=True)]
        sample = [
            torch.tensor([x], dtype=torch.float64)
            for x, n in zip(d, (5, 3, 2), strict=True)
            for _ in range(n)
        ]
        exact = sum(p * x for p, x in zip(self.P, d, strict=True))
        found = kl_estimates(sample)
        assert found["kl"] == pytest.approx(exact, rel=1e-12)
        assert found["kl_k3"] == pytest.approx(exact, rel=1e-12)
        assert found["kl_per_token"] == pytest.approx(exact, rel=1e-12)
        assert (found["responses"], found["empty"]) == (10, 0)

    def test_sequences_add_up(self) -> None:
        """Against 2 KL for two independent tokens: all 100 equally weighted pairs of the ten draws above."""
        d = [math.log(p / q) for p, q in zip(self.P, self.Q, strict=True)]
        draws = [x for x, n in zip(d, (5, 3, 2), strict=True) for _ in range(n)]
        found = kl_estimates(
            [torch.tensor(pair, dtype=torch.float64) for pair in itertools.product(draws, repeat=2)]
        )
        exact = sum(p * x for p, x in zip(self.P, d, strict=True))
        assert found["kl"] == pytest.approx(2 * exact, rel=1e-12)
        assert found["kl_k3"] == pytest.approx(2 * exact, rel=1e-12)
        assert found["kl_per_token"] == pytest.approx(exact, rel=1e-12)

    def test_standard_errors(self) -> None:
        """Against SD / sqrt(n) on paper: k1 of 1 and 3 has SD sqrt 2, so SE 1; k3 terms are e^-d - 1 + d."""
        found = kl_estimates([torch.tensor([1.0]), torch.tensor([1.0, 2.0])])
        assert found["kl"] == pytest.approx(2)
        assert found["kl_se"] == pytest.approx(1)
        one, two = math.exp(-1), math.exp(-2) + 1
        assert found["kl_k3"] == pytest.approx((one + one + two) / 2)
        assert found["kl_k3_se"] == pytest.approx(two / 2)
        assert found["kl_per_token"] == pytest.approx(4 / 3)
        # The ratio 4/3 leaves residuals -1/3 and 1/3: SD sqrt(2)/3, over sqrt 2 and the mean length 1.5.
        assert found["kl_per_token_se"] == pytest.approx(1 / 3 / 1.5)
        assert found["kl_k3_per_token"] == pytest.approx((one + one + two) / 3)

    def test_per_token_standard_error_is_that_of_repeated_samples(self) -> None:
        """Against the spread of the estimate over 4,000 samples of 50 responses of unequal lengths."""
        generator = torch.Generator().manual_seed(1)

        def sample() -> list[torch.Tensor]:
            lengths = torch.randint(5, 40, (50,), generator=generator).tolist()
            return [torch.randn(n, generator=generator, dtype=torch.float64) + 0.3 + 1 / n for n in lengths]

        found = [kl_estimates(sample()) for _ in range(4000)]
        spread = torch.tensor([each["kl_per_token"] for each in found]).std().item()
        mean_se = sum(each["kl_per_token_se"] for each in found) / len(found)
        assert mean_se == pytest.approx(spread, rel=0.06)

    def test_undefined_is_none(self) -> None:
        """Against the style's rule: no SE from one response, no KL from none; empty ones are counted."""
        one = kl_estimates([torch.tensor([0.5]), torch.zeros(0)])
        assert (one["kl"], one["kl_se"], one["kl_k3_se"]) == (0.5, None, None)
        assert (one["responses"], one["empty"]) == (1, 1)
        for nothing in ([], [torch.zeros(0)]):
            none = kl_estimates(nothing)
            assert {none[k] for k in ("kl", "kl_se", "kl_k3", "kl_k3_se", "kl_per_token")} == {None}
            assert (none["responses"], none["empty"]) == (0, len(nothing))
        assert none.keys() == one.keys()

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.lists(st.floats(-20, 20), min_size=1, max_size=5), min_size=1, max_size=5))
    def test_k3_is_never_negative(self, ratios: list[list[float]]) -> None:
        """Against Schulman's inequality exp(-d) - 1 + d >= 0."""
        found = kl_estimates([torch.tensor(d) for d in ratios])
        assert found["kl_k3"] >= 0
