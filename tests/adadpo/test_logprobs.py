"""Log-probabilities are checked against transformers' own forward of each sequence alone, and against TRL's pass."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import add_fused_lm_head

from adadpo.logprobs import pack_pairs, packed_pair_logps, row_logps
from adadpo.quiet import quiet
from tests.adadpo.adadpo_examples import plain_token_logps

Row = dict[str, list[int]]
VOCABULARY = 60


def tiny(**options: Any) -> Any:
    """A random Llama whose probabilities are far from uniform: weights are three times the usual."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=128, pad_token_id=0, **options,
    )  # fmt: skip
    return tripled(LlamaForCausalLM._from_config(config, attn_implementation="sdpa"))


def tripled(model: Any) -> Any:
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(3)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny()


def collate(rows: list[Row], **options: Any) -> dict[str, torch.Tensor]:
    return DataCollatorForPreference(pad_token_id=0, **options)(rows)


def expected(model: Any, rows: list[Row], response: str) -> torch.Tensor:
    return torch.stack([plain_token_logps(model, row["prompt_ids"], row[response]).sum() for row in rows])


def gradients(model: Any, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


ids = st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=9)
pair_rows = st.lists(
    st.fixed_dictionaries({"prompt_ids": ids, "chosen_ids": ids, "rejected_ids": ids}), min_size=1, max_size=4
)
ROWS: list[Row] = [
    {"prompt_ids": [5, 6, 7], "chosen_ids": [8, 9], "rejected_ids": [10, 11, 12, 13]},
    {"prompt_ids": [15], "chosen_ids": [18, 19, 4, 5, 6], "rejected_ids": [10]},
    {"prompt_ids": [20, 21, 22, 23, 24, 25], "chosen_ids": [26], "rejected_ids": [27]},
]


class TestPacked:
    @settings(deadline=None, max_examples=30)
    @given(rows=pair_rows)
    def test_every_sum_is_the_plain_forward_s(self, model: Any, rows: list[Row]) -> None:
        """Against one plain forward per sequence: sums to 1e-5, lengths exactly."""
        with torch.no_grad():
            found = packed_pair_logps(model, collate(rows))
            torch.testing.assert_close(
                found.chosen, expected(model, rows, "chosen_ids"), rtol=1e-5, atol=1e-5
            )
            torch.testing.assert_close(
                found.rejected, expected(model, rows, "rejected_ids"), rtol=1e-5, atol=1e-5
            )
        assert found.chosen_lengths.tolist() == [len(row["chosen_ids"]) for row in rows]
        assert found.rejected_lengths.tolist() == [len(row["rejected_ids"]) for row in rows]

    @settings(deadline=None, max_examples=10)
    @given(rows=pair_rows)
    def test_gradients_are_the_plain_forward_s(self, model: Any, rows: list[Row]) -> None:
        """Against autograd through one plain forward per sequence, every response with a weight of its own.

        To 1e-5 of the largest gradient.
        """
        weights = torch.arange(1, len(rows) + 1) / len(rows)
        found = packed_pair_logps(model, collate(rows))
        ours = gradients(model, (weights * (found.chosen - 0.7 * found.rejected)).sum())
        plain = expected(model, rows, "chosen_ids") - 0.7 * expected(model, rows, "rejected_ids")
        theirs = gradients(model, (weights * plain).sum())
        largest = max(gradient.abs().max().item() for gradient in theirs)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * largest)

    def test_it_equals_trl_s_fused_head(self, base: Any, fresh_model: Any) -> None:
        """Against trl 1.16's chunked log-probabilities on the same batch, values and gradients."""
        model, fused = fresh_model(), fresh_model()
        add_fused_lm_head(fused)
        batch = collate(ROWS)
        labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
        theirs = fused(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False, labels=labels,
            fused_lm_head=True,
        ).log_probs.sum(1)  # fmt: skip
        ours = torch.cat(packed_pair_logps(model, batch)[:2])
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        weights = torch.linspace(-1, 1, 6)
        for a, b in zip(gradients(model, ours @ weights), gradients(fused, theirs @ weights), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)

    def test_truncated_rows(self, model: Any) -> None:
        """Against plain forwards of the responses cut by hand at max_length 5; one response keeps a single token."""
        rows = [
            {"prompt_ids": [5, 6, 7, 8], "chosen_ids": [9, 10, 11], "rejected_ids": [12]},
            {"prompt_ids": [5], "chosen_ids": [9, 10, 11, 12, 13], "rejected_ids": [12, 4]},
        ]
        cut = [
            {"prompt_ids": [5, 6, 7, 8], "chosen_ids": [9], "rejected_ids": [12]},
            {"prompt_ids": [5], "chosen_ids": [9, 10, 11, 12], "rejected_ids": [12, 4]},
        ]
        with torch.no_grad():
            found = packed_pair_logps(model, collate(rows, max_length=5))
            torch.testing.assert_close(found.chosen, expected(model, cut, "chosen_ids"), rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(
                found.rejected, expected(model, cut, "rejected_ids"), rtol=1e-5, atol=1e-5
            )
        assert found.chosen_lengths.tolist() == [1, 4]

    def test_a_prompt_without_tokens(self, model: Any) -> None:
        """Against plain forwards: nothing predicts a first token, so it is context and not scored, as in TRL."""
        rows: list[Row] = [{"prompt_ids": [], "chosen_ids": [8, 9, 3], "rejected_ids": [10, 11]}, ROWS[0]]
        with torch.no_grad():
            found = packed_pair_logps(model, collate(rows))
            torch.testing.assert_close(
                found.chosen, expected(model, rows, "chosen_ids"), rtol=1e-5, atol=1e-5
            )
            torch.testing.assert_close(
                found.rejected, expected(model, rows, "rejected_ids"), rtol=1e-5, atol=1e-5
            )
        assert found.chosen_lengths.tolist() == [2, 2]
        assert found.rejected_lengths.tolist() == [1, 4]

    def test_padding_changes_nothing(self, model: Any) -> None:
        """Against the batch padded to a multiple of 32 and to a neighbour's length."""
        with torch.no_grad():
            plain = packed_pair_logps(model, collate(ROWS))
            padded = packed_pair_logps(model, collate(ROWS, pad_to_multiple_of=32))
            alone = [packed_pair_logps(model, collate([row])) for row in ROWS]
        torch.testing.assert_close(padded.chosen, plain.chosen, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(
            torch.cat([a.rejected for a in alone]), plain.rejected, rtol=1e-6, atol=1e-6
        )

    def test_the_responses_do_not_see_each_other(self) -> None:
        """Against the mask's definition, on one pair of prompt 2, chosen 2, rejected 3."""
        packed = pack_pairs(
            collate([{"prompt_ids": [5, 6], "chosen_ids": [7, 8], "rejected_ids": [9, 10, 11]}])
        )
        assert packed.input_ids.tolist() == [[5, 6, 7, 8, 9, 10, 11]]
        assert packed.position_ids.tolist() == [[0, 1, 2, 3, 2, 3, 4]]
        assert packed.attention_mask[0, 0].int().tolist() == [
            [1, 0, 0, 0, 0, 0, 0],
            [1, 1, 0, 0, 0, 0, 0],
            [1, 1, 1, 0, 0, 0, 0],
            [1, 1, 1, 1, 0, 0, 0],
            [1, 1, 0, 0, 1, 0, 0],
            [1, 1, 0, 0, 1, 1, 0],
            [1, 1, 0, 0, 1, 1, 1],
        ]
        assert packed.predictor.tolist() == [1, 2, 1, 4, 5]
        assert packed.target.tolist() == [7, 8, 9, 10, 11]
        assert packed.response.tolist() == [0, 0, 1, 1, 1]

    def test_rows_that_share_no_prompt_are_refused(self) -> None:
        """Against TRL's truncation_mode="keep_end", which cuts prompts differently."""
        with pytest.raises(ValueError, match="must share their prompt"):
            pack_pairs(collate(ROWS, max_length=4, truncation_mode="keep_end"))

    def test_adapters_count(self, model: Any) -> None:
        """Against the plain forward of the same PEFT model, whose adapters are not 0."""
        from peft import LoraConfig, get_peft_model

        with quiet():
            adapted = get_peft_model(
                tiny(), LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
            ).eval()
        with torch.no_grad():
            for name, weights in adapted.named_parameters():
                if "lora_B" in name:
                    weights.normal_(generator=torch.Generator().manual_seed(1))
            found = packed_pair_logps(adapted, collate(ROWS)).chosen
            torch.testing.assert_close(found, expected(adapted, ROWS, "chosen_ids"), rtol=1e-5, atol=1e-5)
            assert (found - expected(model, ROWS, "chosen_ids")).abs().min() > 0.1


FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
    "opt": {"word_embed_proj_dim": 32, "ffn_dim": 64},
    "gpt_neox": {},
    "phi3": {},
    "cohere": {"logit_scale": 0.06},
    "granite": {"logits_scaling": 7.0},
    "gemma3_text": {"head_dim": 8, "final_logit_softcapping": 1.5},
}


def of_family(name: str, options: dict[str, Any], **more: Any) -> Any:
    shape = {
        "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **{**shape, **options})
    return tripled(AutoModelForCausalLM.from_config(config, **{"attn_implementation": "sdpa", **more}))


class TestModels:
    @pytest.mark.parametrize("name", FAMILIES)
    def test_families_with_heads_and_positions_of_their_own(self, name: str) -> None:
        """Against their plain forward: absolute positions, other names, logits rescaled or capped after the head."""
        model = of_family(name, FAMILIES[name])
        batch = collate(ROWS)
        with torch.no_grad():
            chosen, rejected = (expected(model, ROWS, f"{side}_ids") for side in ("chosen", "rejected"))
            found = packed_pair_logps(model, batch)
            torch.testing.assert_close(found.chosen, chosen, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(found.rejected, rejected, rtol=1e-4, atol=1e-4)
            rows = row_logps(
                model, batch["input_ids"], batch["attention_mask"], batch["completion_mask"]
            ).sum(1)
            torch.testing.assert_close(rows, torch.cat([chosen, rejected]), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("name", FAMILIES)
    def test_plain_attention_is_the_same_function(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a CPU takes in bfloat16, here in float32 and against SDPA: values to 1e-4, gradients to 1e-4."""
        model, batch = of_family(name, FAMILIES[name]), collate(ROWS)
        weights = torch.linspace(-1, 1, 6)
        fused = torch.cat(packed_pair_logps(model, batch)[:2])
        monkeypatch.setattr("adadpo.logprobs._plain_is_faster", lambda *_: True)
        with monkeypatch.context() as patch:
            patch.setattr(torch.nn.functional, "scaled_dot_product_attention", None)  # called: an error
            plain = torch.cat(packed_pair_logps(model, batch)[:2])
        assert model.config._attn_implementation == "sdpa"
        torch.testing.assert_close(plain, fused, rtol=1e-4, atol=1e-4)
        found, expected = (gradients(model, logps @ weights) for logps in (plain, fused))
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)

    @pytest.mark.parametrize("recomputed", [False, True])
    def test_in_bfloat16_on_a_cpu(self, recomputed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Against the float32 model, to bfloat16's precision; layers that are recomputed keep one attention."""
        model, batch = of_family("llama", {}), collate(ROWS)
        exact = torch.cat(packed_pair_logps(model, batch)[:2]).detach()
        if recomputed:
            model.train().activation_checkpointing_enable({"use_reentrant": False})
        fused = Mock(wraps=torch.nn.functional.scaled_dot_product_attention)
        monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", fused)
        with torch.autocast("cpu", torch.bfloat16), quiet():
            found = torch.cat(packed_pair_logps(model, batch)[:2])
        found.sum().backward()
        assert fused.called == recomputed
        torch.testing.assert_close(found, exact, rtol=0.03, atol=0.1)

    def test_attention_that_would_misread_the_mask_is_refused(self) -> None:
        """Against eager attention, which adds a boolean mask to its scores as 0 and 1."""
        model = of_family("qwen2", {}, attn_implementation="eager")
        with pytest.raises(ValueError, match="need attn_implementation 'sdpa', the model has 'eager'"):
            packed_pair_logps(model, collate(ROWS))

    def test_rows_beyond_a_sliding_window_are_refused(self) -> None:
        """Against the plain forward: equal within the window; beyond it our mask would let tokens see too far."""
        with torch.no_grad():
            model = of_family("mistral", {"sliding_window": 7})
            found = packed_pair_logps(model, collate(ROWS)).chosen
            torch.testing.assert_close(found, expected(model, ROWS, "chosen_ids"), rtol=1e-4, atol=1e-4)
            with pytest.raises(ValueError, match="7 tokens exceed the model's sliding window of 6"):
                packed_pair_logps(of_family("mistral", {"sliding_window": 6}), collate(ROWS))


class TestRows:
    @settings(deadline=None, max_examples=20)
    @given(rows=st.lists(st.tuples(ids, ids), min_size=1, max_size=4), left=st.booleans())
    def test_token_by_token(self, model: Any, rows: list[tuple[list[int], list[int]]], left: bool) -> None:
        """Against the full logits of each row alone, padding on either side; 0 where nothing is scored."""
        width = max(len(p) + len(r) for p, r in rows)

        def padded(row: list[int], fill: int = 0) -> list[int]:
            gap = [fill] * (width - len(row))
            return gap + row if left else row + gap

        input_ids = torch.tensor([padded(p + r) for p, r in rows])
        attention = torch.tensor([padded([1] * len(p + r)) for p, r in rows])
        completion = torch.tensor([padded([0] * len(p) + [1] * len(r)) for p, r in rows])
        with torch.no_grad():
            found = row_logps(model, input_ids, attention, completion)
            assert found.shape == (len(rows), width - 1)
            assert (found[completion[:, 1:] == 0] == 0).all()
            for (prompt, response), line, mask in zip(rows, found, completion[:, 1:].bool(), strict=True):
                plain = plain_token_logps(model, prompt, response)
                torch.testing.assert_close(line[mask], plain, rtol=1e-5, atol=1e-5)
