"""AdaDPOTrainer is checked against stock trl.DPOTrainer: same model, data and seed, weights compared after training."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from peft import LoraConfig
from transformers import HfArgumentParser
from trl import DPOConfig, DPOTrainer

from adadpo import AdaDPOConfig, AdaDPOTrainer, make_method
from adadpo.data.batching import order_by_length
from adadpo.data.tokens import tokenize_pairs
from adadpo.models.policy import Base
from adadpo.quiet import quiet
from tests.adadpo.adadpo_examples import chats, rows

Weights = dict[str, torch.Tensor]
BALANCE = ["balance/chosen", "balance/rejected", "balance/clipped", "balance/log_gradient_ratio"]


def arguments(config_class: type, folder: Any, **options: Any) -> Any:
    """2 pairs x 2 micro-batches a step; 11 pairs, so the last micro-batch and the last step are incomplete."""
    fixed = {
        "output_dir": str(folder), "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "beta": 0.1,
        "learning_rate": 1e-3, "lr_scheduler_type": "constant", "num_train_epochs": 2, "seed": 3, "bf16": False,
        "use_cpu": True, "gradient_checkpointing": False, "report_to": "none", "save_strategy": "no",
        "logging_steps": 1, "disable_tqdm": True, "max_length": 64, "dataloader_pin_memory": False,
    }  # fmt: skip
    with quiet():
        return config_class(**{**fixed, **options})


@pytest.fixture
def train(
    base: Base, fresh_model: Callable[[], Any], tmp_path: Any
) -> Callable[..., tuple[Weights, list[dict[str, float]]]]:
    """Trains the tiny model; gives the final weights and the logged steps."""

    def run(trainer_class: type, config_class: type, lora: bool = False, **options: Any) -> Any:
        with quiet():
            trainer = trainer_class(
                model=fresh_model(),
                args=arguments(config_class, tmp_path / "out", **options),
                train_dataset=datasets.Dataset.from_list(rows(chats(11))),
                processing_class=copy.deepcopy(base.tokenizer),
                peft_config=LoraConfig(r=2, target_modules="all-linear") if lora else None,
            )
            trainer.train()
        state = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        return state, [entry for entry in trainer.state.log_history if "loss" in entry]

    return run


def bit_identical(a: Weights, b: Weights) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def distance(a: Weights, b: Weights) -> float:
    return max((a[name] - b[name]).abs().max().item() for name in a)


class TestAgainstStock:
    @pytest.mark.parametrize("precompute", [False, True], ids=["reference model", "precomputed"])
    @pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
    def test_dpo_is_bit_identical(self, train: Any, lora: bool, precompute: bool) -> None:
        """Against trl 1.16's loss "sigmoid" after 6 steps: torch.equal on every weight; losses and rewards too."""
        options = {"lora": lora, "precompute_ref_log_probs": precompute}
        stock, stock_log = train(DPOTrainer, DPOConfig, **options)
        ours, our_log = train(AdaDPOTrainer, AdaDPOConfig, method="dpo", forward="trl", **options)
        assert bit_identical(stock, ours)
        assert len(our_log) == 6
        shared = ["loss", "grad_norm", "num_tokens", "rewards/chosen", "rewards/rejected", "rewards/margins",
                  "rewards/accuracies", "logps/chosen", "logps/rejected"]  # fmt: skip
        assert [{k: step[k] for k in shared} for step in our_log] == [
            {k: step[k] for k in shared} for step in stock_log
        ]

    @pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
    @pytest.mark.parametrize("checkpointing", [False, True])
    def test_the_shared_prompt_is_the_same_training(
        self, train: Any, base: Base, lora: bool, checkpointing: bool
    ) -> None:
        """Against the same stock run with SGD, whose steps are the gradients: 1e-5, after rewards moved."""
        options = {"lora": lora, "optim": "sgd", "learning_rate": 0.3}
        stock, stock_log = train(DPOTrainer, DPOConfig, **options)
        more = {"forward": "shared_prompt", "gradient_checkpointing": checkpointing}
        ours, _ = train(AdaDPOTrainer, AdaDPOConfig, method="dpo", **more, **options)
        assert distance(stock, ours) < 1e-5
        assert max(abs(step["rewards/margins"]) for step in stock_log) > 1e-2

    @pytest.mark.parametrize("precompute", [False, True], ids=["reference model", "precomputed"])
    def test_the_shared_prompt_by_length_is_the_same_training(self, train: Any, precompute: bool) -> None:
        """Against TRL's pass in the same order, SGD: 1e-5. And it is another order than the random one."""
        options = {
            "optim": "sgd",
            "learning_rate": 0.3,
            "method": "dpo",
            "precompute_ref_log_probs": precompute,
        }
        grouped = options | {"batching": "by_length"}
        plain, steps = train(AdaDPOTrainer, AdaDPOConfig, **grouped)
        packed, _ = train(AdaDPOTrainer, AdaDPOConfig, forward="shared_prompt", **grouped)
        random, _ = train(AdaDPOTrainer, AdaDPOConfig, **options)
        assert len(steps) == 6
        assert distance(plain, packed) < 1e-5
        assert distance(plain, random) > 1e-5

    def test_adadpo_is_another_training(self, train: Any) -> None:
        """Against DPO: other weights; and AdaDPO with the balance put off is DPO bit for bit."""
        dpo, _ = train(AdaDPOTrainer, AdaDPOConfig, method="dpo")
        ada, _ = train(AdaDPOTrainer, AdaDPOConfig)
        off, _ = train(AdaDPOTrainer, AdaDPOConfig, method_options={"balance": "none"})
        assert distance(dpo, ada) > 1e-5
        assert bit_identical(dpo, off)

    def test_evaluation(self, base: Base, fresh_model: Any, tmp_path: Any) -> None:
        """Against the stock trainer's eval_loss and rewards on held-out pairs, also for a set given later."""
        found = []
        for trainer_class, config in (
            (DPOTrainer, (DPOConfig, {})),
            (AdaDPOTrainer, (AdaDPOConfig, {"method": "dpo"})),
        ):
            with quiet():
                trainer = trainer_class(
                    model=fresh_model(),
                    args=arguments(config[0], tmp_path, **config[1], max_steps=2),
                    train_dataset=datasets.Dataset.from_list(rows(chats(4))),
                    eval_dataset=datasets.Dataset.from_list(rows(chats(9)[4:])),
                    processing_class=base.tokenizer,
                )
                trainer.train()
                metrics = [trainer.evaluate(), trainer.evaluate(datasets.Dataset.from_list(rows(chats(3))))]
            found.append([{k: v for k, v in m.items() if "loss" in k or "rewards" in k} for m in metrics])
        assert found[0] == found[1]
        assert len(found[0][0]) == 5


class TestDropIn:
    @pytest.mark.parametrize(
        "dataset",
        [rows(chats(6)), [{"chosen": f"Name {i}: apple", "rejected": f"Name {i}: a pear"} for i in range(6)]],
        ids=["conversations", "text with implicit prompt"],
    )
    def test_a_trl_script_with_two_names_changed(
        self, base: Base, cache_root: Any, tmp_path: Any, dataset: list[Any]
    ) -> None:
        """Against the quick start of TRL's documentation: model by path, raw data, nothing else given."""
        with quiet():
            trainer = AdaDPOTrainer(
                model=str(cache_root / "models" / base.source.identity),
                args=arguments(AdaDPOConfig, tmp_path, max_steps=3),
                train_dataset=datasets.Dataset.from_list(dataset),
            )
            trainer.train()
        steps = [entry for entry in trainer.state.log_history if "loss" in entry]
        assert len(steps) == 3
        assert all(name in step for step in steps for name in BALANCE)

    @pytest.mark.parametrize("forward", ["trl", "shared_prompt"])
    def test_what_is_logged_at_every_step(self, train: Any, forward: str) -> None:
        """Against the loss's definition: AdaDPO's log gradient ratio is 0, DPO's is not and its coefficients are 1."""
        _, ada = train(AdaDPOTrainer, AdaDPOConfig, forward=forward)
        _, dpo = train(AdaDPOTrainer, AdaDPOConfig, forward=forward, method="dpo")
        for steps in (ada, dpo):
            assert len(steps) == 6
            assert all(name in step for step in steps for name in BALANCE)
        assert all(abs(step["balance/log_gradient_ratio"]) < 1e-6 for step in ada)
        assert all(step["balance/clipped"] == 0 for step in ada + dpo)
        assert any(abs(step["balance/chosen"] - 1) > 1e-3 for step in ada)
        assert max(abs(step["balance/log_gradient_ratio"]) for step in dpo) > 1e-2
        assert all(step["balance/chosen"] == step["balance/rejected"] == 1 for step in dpo)

    def test_the_clip_is_logged(self, train: Any) -> None:
        """Against a clip so tight that it binds for every pair."""
        _, steps = train(AdaDPOTrainer, AdaDPOConfig, method_options={"clip": 1.000001})
        assert all(step["balance/clipped"] == 1 for step in steps)
        assert all(abs(step["balance/log_gradient_ratio"]) > 1e-5 for step in steps)

    def test_reference_columns_are_used(self, base: Base, fresh_model: Any, tmp_path: Any) -> None:
        """Against rewards by hand: with a reference of 0 nats a reward is beta times the log-probability."""
        ready = tokenize_pairs(chats(4), base.tokenizer, 64).rows()
        with_reference = [{**row, "ref_chosen_logps": 0.0, "ref_rejected_logps": 0.0} for row in ready]
        with quiet():
            trainer = AdaDPOTrainer(
                model=fresh_model(),
                args=arguments(AdaDPOConfig, tmp_path, precompute_ref_log_probs=True, max_steps=1),
                train_dataset=datasets.Dataset.from_list(with_reference),
                processing_class=base.tokenizer,
            )
            trainer.train()
        step = trainer.state.log_history[0]
        assert trainer.ref_model is None
        assert step["rewards/chosen"] == pytest.approx(0.1 * step["logps/chosen"], rel=1e-6)
        assert step["rewards/rejected"] == pytest.approx(0.1 * step["logps/rejected"], rel=1e-6)


class TestOrder:
    def test_by_length_is_the_same_for_every_arm(
        self, base: Base, fresh_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Against `order_by_length` of the pairs' lengths, counted here: what two methods are given, epoch by epoch."""
        ids = tokenize_pairs(chats(11), base.tokenizer, 40)
        responses = zip(ids.prompt_ids, ids.chosen_ids, ids.rejected_ids, strict=True)
        lengths = [len(p) + min(len(c), 40 - len(p)) + min(len(r), 40 - len(p)) for p, c, r in responses]
        assert ids.truncated
        assert len(set(lengths)) == 6
        expected = [order_by_length(lengths, 4, np.random.default_rng([5, epoch])) for epoch in range(2)]
        for options in ({"method": "dpo"}, {"forward": "shared_prompt"}, {"seed": 9, "data_seed": 5}):
            seen: list[int] = []
            packed = AdaDPOTrainer._compute_loss

            def noting(
                trainer: Any, model: Any, inputs: Any, *rest: Any, seen: Any = seen, of: Any = packed
            ) -> Any:
                pairs = len(inputs["input_ids"]) // 2
                for row, mask in zip(
                    inputs["input_ids"][:pairs], inputs["completion_mask"][:pairs], strict=True
                ):
                    prompt = row[: mask.argmax()].tolist()
                    seen.append(ids.prompt_ids.index(prompt))
                return of(trainer, model, inputs, *rest)

            with quiet(), monkeypatch.context() as patch:
                patch.setattr(AdaDPOTrainer, "_compute_loss", noting)
                trainer = AdaDPOTrainer(
                    model=fresh_model(),
                    args=arguments(
                        AdaDPOConfig, tmp_path, max_length=40, batching="by_length",
                        precompute_ref_log_probs=True, **{"seed": 5, **options},
                    ),
                    train_dataset=datasets.Dataset.from_list(rows(chats(11))),
                    processing_class=base.tokenizer,
                )  # fmt: skip
                trainer.train()
            assert seen == [*expected[0], *expected[1]]


class TestArguments:
    def test_from_a_command_line(self, tmp_path: Any) -> None:
        """Against transformers' own parser, which TRL's scripts use: method and options are ordinary arguments."""
        line = [
            "--output_dir",
            str(tmp_path),
            "--use_cpu",
            "--bf16",
            "False",
            "--beta",
            "0.2",
            "--method",
            "adadpo",
        ]
        with quiet():
            (config,) = HfArgumentParser(AdaDPOConfig).parse_args_into_dataclasses(
                [*line, "--method_options", '{"clip": 5, "normalization": "mean"}']
            )
        assert config.resolve_method() == make_method("adadpo", beta=0.2, clip=5, normalization="mean")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"loss_type": "ipo"}, "loss_type has no effect"),
            ({"label_smoothing": 0.1, "ld_alpha": 0.5}, "ld_alpha, label_smoothing has no effect"),
            ({"f_divergence_type": "forward_kl"}, "f_divergence_type has no effect"),
            ({"use_weighting": True}, "use_weighting has no effect"),
            ({"method_options": {"gamma": 1}}, "gamma"),
            ({"method_options": "clip=3"}, "must be a JSON object, got 'clip=3'"),
            ({"method": "dpo", "method_options": {"clip": 3}}, "clip has no effect"),
            ({"forward": "packed"}, "forward must be 'trl' or 'shared_prompt', got 'packed'"),
            ({"batching": "by_size"}, "batching must be 'random' or 'by_length', got 'by_size'"),
            ({"mean_over": "epoch"}, "mean_over must be 'micro_batch' or 'step', got 'epoch'"),
            (
                {"batching": "by_length", "train_sampling_strategy": "sequential"},
                "are two orders; remove one",
            ),
            ({"beta": 0}, "beta"),
        ],
        ids=str,
    )
    def test_refused(self, tmp_path: Any, options: dict[str, Any], message: str) -> None:
        """Against options that TRL would obey and this loss cannot: silence would be a wrong experiment."""
        with pytest.raises(ValueError, match=message):
            arguments(AdaDPOConfig, tmp_path, **options)

    def test_unknown_method(self, tmp_path: Any) -> None:
        """Against the list of presets."""
        with pytest.raises(ValueError, match="unknown method 'kto'; choose one of dpo, adadpo"):
            arguments(AdaDPOConfig, tmp_path, method="kto")

    def test_a_stock_configuration_is_refused(self, base: Base, fresh_model: Any, tmp_path: Any) -> None:
        """Against the type in the message, before any work; without args too."""
        with pytest.raises(TypeError, match=r"needs args=AdaDPOConfig\(...\), got DPOConfig"):
            AdaDPOTrainer(model=fresh_model(), args=arguments(DPOConfig, tmp_path))
        with pytest.raises(TypeError, match="got NoneType"):
            AdaDPOTrainer(fresh_model())

    def test_a_shared_prompt_needs_whole_prompts(self, base: Base, fresh_model: Any, tmp_path: Any) -> None:
        """Against keep_end, which cuts the two prompts of a pair at different places."""
        config = arguments(AdaDPOConfig, tmp_path, forward="shared_prompt")
        config.truncation_mode = "keep_end"  # set in the constructor it warns of its end in TRL 2
        with quiet(), pytest.raises(ValueError, match="needs truncation_mode='keep_start'"):
            AdaDPOTrainer(
                model=fresh_model(),
                args=config,
                train_dataset=datasets.Dataset.from_list(rows(chats(2))),
                processing_class=base.tokenizer,
            )
