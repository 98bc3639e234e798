"""Every method in an ordinary TRL script: it trains, it resumes bit for bit, and without a reference it loads none."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import trl.trainer.dpo_trainer
from peft import LoraConfig, get_peft_model

from adadpo import AdaDPOConfig, AdaDPOTrainer
from adadpo.data.tokens import tokenize_pairs
from adadpo.method.registry import LOSSES, PRESETS, make_method
from adadpo.models.policy import Base
from adadpo.quiet import quiet
from tests.adadpo.adadpo_examples import chats, rows

REFERENCE_FREE = [name for name, preset in PRESETS.items() if not LOSSES[preset["loss"]].needs_reference]
WITH_REFERENCE = [name for name in PRESETS if name not in REFERENCE_FREE]
LORA = LoraConfig(r=2, target_modules="all-linear")
STEPS = 2


@pytest.fixture(scope="module")
def pairs() -> datasets.Dataset:
    return datasets.Dataset.from_list(rows(chats(7)))


@pytest.fixture
def script(
    base: Base, fresh_model: Callable[[], Any], tmp_path: Path, pairs: datasets.Dataset
) -> Callable[..., AdaDPOTrainer]:
    """What a user of TRL writes: 2 micro-batches of 2 pairs a step, 7 pairs, so the last of an epoch is incomplete."""

    def make(method: str, lora: bool = False, given: dict[str, Any] | None = None, **options: Any) -> Any:
        arguments = {
            "output_dir": str(tmp_path / "out"), "method": method, "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2, "max_steps": STEPS, "learning_rate": 1e-3, "bf16": False, "seed": 3,
            "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True,
            "max_length": 64, "gradient_checkpointing": False, "dataloader_pin_memory": False,
        }  # fmt: skip
        keywords = {"model": fresh_model(), "train_dataset": pairs, "peft_config": LORA if lora else None}
        with quiet():
            return AdaDPOTrainer(
                args=AdaDPOConfig(**{**arguments, **options}),
                processing_class=copy.deepcopy(base.tokenizer),
                **{**keywords, **(given or {})},
            )

    return make


def train(trainer: Any, **options: Any) -> list[dict[str, float]]:
    """Trains; gives the logged steps."""
    with quiet():
        trainer.train(**options)
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def identical(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def passes_through(model: Any) -> list[int]:
    """Counts the forward passes of a model, adapters on or off, by its first layer."""
    count = [0]

    def counting(*args: Any) -> None:
        count[0] += 1

    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    causal.model.layers[0].register_forward_hook(counting)
    return count


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that TRL loads by path."""
    paths: list[str] = []
    original = trl.trainer.dpo_trainer.create_model_from_path

    @functools.wraps(original)
    def load(path: str, **options: Any) -> Any:
        paths.append(path)
        return original(path, **options)

    monkeypatch.setattr(trl.trainer.dpo_trainer, "create_model_from_path", load)
    return paths


class TestEveryMethod:
    @pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
    @pytest.mark.parametrize("method", PRESETS)
    def test_it_trains(self, script: Any, loaded: list[str], method: str, lora: bool) -> None:
        """Against the number of forward passes that the method needs, and the weights before.

        A full fine-tune with a reference loads it once; with adapters the same model runs again without them. An Ada
        form's log gradient ratio is 0, its base loss's is not.
        """
        trainer = script(method, lora)
        before, count = weights(trainer), passes_through(trainer.model)
        steps = train(trainer)
        assert len(steps) == STEPS
        assert all(step["grad_norm"] > 0 for step in steps)
        moved = {name for name, value in weights(trainer).items() if not torch.equal(value, before[name])}
        assert moved == {n for n, p in trainer.model.named_parameters() if p.requires_grad} | (
            set() if lora else {"lm_head.weight"}  # tied to the embeddings
        )
        needs_reference = method in WITH_REFERENCE
        micro_batches = 2 * STEPS
        assert count[0] == micro_batches * (2 if needs_reference and lora else 1)
        assert len(loaded) == (1 if needs_reference and not lora else 0)
        assert (trainer.ref_model is not None) is (needs_reference and not lora)

        if method.startswith("ada"):
            assert all(abs(step["balance/log_gradient_ratio"]) < 1e-6 for step in steps)
            assert all(abs(step["balance/chosen"] - 1) > 1e-6 for step in steps)
        else:
            assert all(abs(step["balance/log_gradient_ratio"]) > 1e-3 for step in steps)
            assert all(step["balance/chosen"] == step["balance/rejected"] == 1 for step in steps)
        assert all(step["balance/clipped"] == 0 for step in steps)

    @pytest.mark.parametrize("method", PRESETS)
    def test_the_shared_prompt_is_the_same_loss(self, script: Any, base: Base, method: str) -> None:
        """Against TRL's forward pass on the same batch: the loss and the gradient in every weight."""
        ready = tokenize_pairs(chats(4), base.tokenizer, 64).rows()
        given = [{**row, "ref_chosen_logps": -60.0, "ref_rejected_logps": -50.0} for row in ready]
        rows_given = datasets.Dataset.from_list(given)
        options = {"precompute_ref_log_probs": True, "forward": "shared_prompt"}  # which then takes both
        trainer = script(method, given={"train_dataset": rows_given}, **options)
        found = []
        for forward in ("trl", "shared_prompt"):
            trainer.args.forward = forward
            trainer.model.zero_grad()
            with quiet():
                loss = trainer.compute_loss(trainer.model, trainer.data_collator(given))
            loss.backward()
            found.append((loss.item(), [p.grad.clone() for p in trainer.model.parameters()]))
        assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
        for plain, packed in zip(found[0][1], found[1][1], strict=True):
            torch.testing.assert_close(packed, plain, rtol=0, atol=1e-4 * plain.abs().max().item())

    @pytest.mark.parametrize(("method", "lora"), [("adaorpo", False), ("adasimpo", True), ("adaipo", False)])
    def test_resume(self, script: Any, tmp_path: Path, method: str, lora: bool) -> None:
        """Against the uninterrupted run, bit for bit: weights and logged steps, from a checkpoint in mid-epoch."""
        whole = script(method, lora, max_steps=4)
        expected = train(whole)
        trainer = script(method, lora, max_steps=4, save_strategy="steps", save_steps=1)

        class Killed(Exception):
            pass

        original, calls = trainer.training_step, iter(range(100))

        def step(*args: Any, **options: Any) -> Any:
            if next(calls) == 3:  # the second micro-batch of step 2
                raise Killed
            return original(*args, **options)

        trainer.training_step = step
        with pytest.raises(Killed):
            train(trainer)
        checkpoint = tmp_path / "out" / "checkpoint-1"
        assert checkpoint.is_dir()
        assert not list(checkpoint.rglob("ref"))
        again = script(method, lora, max_steps=4)
        steps = train(again, resume_from_checkpoint=str(checkpoint))
        assert identical(weights(whole), weights(again))
        timeless = [
            {k: v for k, v in s.items() if k != "num_tokens"} for s in steps
        ]  # not in TRL's checkpoints
        assert timeless == [{k: v for k, v in s.items() if k != "num_tokens"} for s in expected]
        assert len(steps) == 4


class TestWithoutReference:
    @pytest.mark.parametrize("method", ["cpo", "adasimpo", "orpo"])
    def test_an_adapter_that_was_there(self, script: Any, fresh_model: Any, method: str) -> None:
        """Against the adapters given: TRL copies a given one as "ref"; nothing uses it, so it is not kept."""
        with quiet():
            model = get_peft_model(fresh_model(), LORA)
        trainer = script(method, given={"model": model, "peft_config": None}, max_steps=1)
        assert set(trainer.model.peft_config) == {"default"}
        count = passes_through(trainer.model)
        train(trainer)
        assert count == [2]
        assert not [name for name in weights(trainer) if ".ref." in name]

    def test_the_copy_is_kept_where_it_is_the_reference(self, script: Any, fresh_model: Any) -> None:
        """Against TRL: with AdaDPO a given adapter's copy is the reference."""
        with quiet():
            model = get_peft_model(fresh_model(), LORA)
        trainer = script("adadpo", given={"model": model, "peft_config": None})
        assert set(trainer.model.peft_config) == {"default", "ref"}

    def test_a_model_by_path_is_loaded_once(
        self, script: Any, base: Base, cache_root: Path, loaded: list[str]
    ) -> None:
        """Against two for a method with a reference."""
        path = str(cache_root / "models" / base.source.identity)
        for method, expected in (("adasimpo", [path]), ("adadpo", [path, path])):
            loaded.clear()
            script(method, given={"model": path})
            assert loaded == expected

    @pytest.mark.parametrize("method", ["adaorpo"])
    def test_evaluation_on_pairs_given_later(self, script: Any, method: str) -> None:
        """Against the same pairs given at the start: a full fine-tune needs no reference for them."""
        later = datasets.Dataset.from_list(rows(chats(9)[5:]))
        trainer = script(method, given={"eval_dataset": later})
        train(trainer)
        with quiet():
            found = [trainer.evaluate(), trainer.evaluate(later), trainer.evaluate({"later": later})]
        assert found[0]["eval_loss"] == found[1]["eval_loss"] == found[2]["eval_later_loss"]
        assert abs(found[0]["eval_rewards/margins"]) > 0

    def test_reference_columns_are_not_looked_at(self, script: Any, base: Base) -> None:
        """Against the same rows without them, bit for bit."""
        ready = tokenize_pairs(chats(7), base.tokenizer, 64).rows()
        absurd = [{**row, "ref_chosen_logps": -1e4, "ref_rejected_logps": 0.0} for row in ready]
        found = []
        for these in (ready, absurd):
            trainer = script(
                "adacpo", given={"train_dataset": datasets.Dataset.from_list(these)}, max_steps=2
            )
            train(trainer)
            found.append(weights(trainer))
        assert identical(*found)

    @pytest.mark.parametrize("method", REFERENCE_FREE)
    def test_a_reference_is_refused(self, script: Any, fresh_model: Any, tmp_path: Path, method: str) -> None:
        """Against silence: a reference model by name or by position, and options that only a reference has."""
        message = f"{method} uses no reference model; remove ref_model"
        with pytest.raises(ValueError, match=message):
            script(method, given={"ref_model": fresh_model()})
        config = script(method).args
        with pytest.raises(ValueError, match=message):
            AdaDPOTrainer(fresh_model(), fresh_model(), config)
        with pytest.raises(ValueError, match=f"sync_ref_model has no effect: method='{method}'"):
            script(method, sync_ref_model=True)
        with pytest.raises(ValueError, match="balance_reference has no effect"):
            script(method, method_options={"balance": "per_token", "balance_reference": True})

    def test_a_stream_of_pairs(self, script: Any, pairs: datasets.Dataset) -> None:
        """Against the rows in memory in their order: TRL precomputes nothing for a stream, and nothing is needed."""
        found = []
        for these in (pairs, pairs.to_iterable_dataset()):
            trainer = script(
                "adasimpo", given={"train_dataset": these}, train_sampling_strategy="sequential", max_steps=1
            )
            found.append(train(trainer)[0]["loss"])
        assert found[0] == found[1]


class TestReferenceColumns:
    @pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
    @pytest.mark.parametrize("method", ["adaipo", "adardpo", "sppo"])
    def test_they_take_the_place_of_passes(
        self, script: Any, base: Base, loaded: list[str], method: str, lora: bool
    ) -> None:
        """Against rewards by hand with a reference of -1 and -2 nats; one forward pass a micro-batch, no model."""
        ready = tokenize_pairs(chats(7), base.tokenizer, 64).rows()
        given = [{**row, "ref_chosen_logps": -1.0, "ref_rejected_logps": -2.0} for row in ready]
        trainer = script(
            method, lora, given={"train_dataset": datasets.Dataset.from_list(given)},
            precompute_ref_log_probs=True, max_steps=1,
        )  # fmt: skip
        count = passes_through(trainer.model)
        step = train(trainer)[0]
        assert count == [2]
        assert not loaded
        assert trainer.ref_model is None
        if method != "adaipo":  # whose rewards are per token
            beta = make_method(method).beta
            assert step["rewards/chosen"] == pytest.approx(beta * (step["logps/chosen"] + 1), rel=1e-5)
            assert step["rewards/rejected"] == pytest.approx(beta * (step["logps/rejected"] + 2), rel=1e-5)

    def test_precomputed_is_the_same_training(self, script: Any) -> None:
        """Against the reference model's own passes; TRL computes the columns before training, in other batches.

        To a hundredth of a step of Adam: some CPUs (AMX) round by the shape of a batch, so not bit for bit.
        """
        found = []
        for precompute in (False, True):
            trainer = script("adaipo", precompute_ref_log_probs=precompute, max_steps=2)
            train(trainer)
            found.append(weights(trainer))
        assert found[0].keys() == found[1].keys()
        for name, weight in found[0].items():
            torch.testing.assert_close(found[1][name], weight, rtol=0, atol=1e-5, msg=name)


def test_a_config_of_every_preset_has_its_beta(tmp_path: Path) -> None:
    """Against the papers' defaults in methods.LOSSES: TRL's own 0.1 must not stand in for SimPO's 2 or SPPO's 1e-3."""
    expected = {
        "dpo": 0.1,
        "rdpo": 0.1,
        "ipo": 0.1,
        "cpo": 0.1,
        "simpo": 2.0,
        "orpo": 0.1,
        "dpop": 0.3,
        "sppo": 0.001,
    }
    for preset, options in PRESETS.items():
        with quiet():
            config = AdaDPOConfig(str(tmp_path), method=preset, bf16=False, use_cpu=True, report_to="none")
            other = AdaDPOConfig(
                str(tmp_path), method=preset, beta=0.7, bf16=False, use_cpu=True, report_to="none"
            )
        assert config.beta == config.resolve_method().beta == expected[options["loss"]]
        assert other.resolve_method().beta == 0.7
