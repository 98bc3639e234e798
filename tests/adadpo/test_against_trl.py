"""Losses and the gradients of every weight against TRL 1.16's own code, called on the same model and the same batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from torch import Tensor
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from adadpo import AdaDPOConfig, AdaDPOTrainer
from adadpo.models.policy import Base
from adadpo.quiet import quiet
from tests.adadpo.adadpo_examples import chats, rows

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # TRL tells that these may change
    from trl.experimental.cpo import CPOConfig, CPOTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

PAD = 0
Row = dict[str, list[int]]


def token_rows(prompts: list[int], chosen: list[int], rejected: list[int]) -> list[Row]:
    """Rows of token ids of given lengths."""
    random = torch.Generator().manual_seed(5)

    def draw(n: int) -> list[int]:
        return torch.randint(3, 400, (n,), generator=random).tolist()

    return [
        {"prompt_ids": draw(p), "chosen_ids": draw(w), "rejected_ids": draw(r)}
        for p, w, r in zip(prompts, chosen, rejected, strict=True)
    ]


MIXED = token_rows([4, 7, 2, 5], [3, 9, 1, 6], [8, 2, 5, 6])
ONE_LENGTH = token_rows([4, 7, 2], [5, 5, 5], [8, 2, 5])  # of the chosen responses
ONE_TOKEN_PROMPTS = token_rows([1, 1, 1], [5, 5, 5], [8, 2, 5])


def for_dpo(these: list[Row]) -> dict[str, Tensor]:
    return DataCollatorForPreference(pad_token_id=PAD, max_length=64)(these)


def for_cpo(these: list[Row]) -> dict[str, Tensor]:
    """The batch that TRL's CPO and ORPO collators give: labels -100 on prompt and padding."""
    batch = {}
    for side in ("chosen", "rejected"):
        width = max(len(row["prompt_ids"]) + len(row[f"{side}_ids"]) for row in these)
        ids, mask, labels = [], [], []
        for row in these:
            whole = row["prompt_ids"] + row[f"{side}_ids"]
            empty = width - len(whole)
            ids.append(whole + [PAD] * empty)
            mask.append([1] * len(whole) + [0] * empty)
            labels.append([-100] * len(row["prompt_ids"]) + row[f"{side}_ids"] + [-100] * empty)
        for name, values in (("input_ids", ids), ("attention_mask", mask), ("labels", labels)):
            batch[f"{side}_{name}"] = torch.tensor(values)
    return batch


@pytest.fixture
def trainers(base: Base, fresh_model: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Makes a trainer of the tiny model with weights that are far from random guessing; a reference has others."""

    def model(seed: int) -> Any:
        model, random = fresh_model(), torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in model.parameters():
                weight += 0.2 * torch.randn(weight.shape, generator=random)
        return model

    def make(trainer_class: type, config_class: type, reference: bool, **options: Any) -> Any:
        arguments: dict[str, Any] = {
            "output_dir": str(tmp_path), "per_device_train_batch_size": 2, "bf16": False, "use_cpu": True,
            "gradient_checkpointing": False, "report_to": "none", "max_length": 64,
        }  # fmt: skip
        given = {"ref_model": model(9)} if reference else {}
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TRL's experimental trainers
            return trainer_class(
                model=model(8),
                args=config_class(**arguments, **options),
                train_dataset=datasets.Dataset.from_list(
                    [{"prompt": "Hello", "chosen": " you", "rejected": " me"}]
                    if config_class in (CPOConfig, ORPOConfig)
                    else rows(chats(2))
                ),
                processing_class=base.tokenizer,
                **given,
            )

    return make


def measured(trainer: Any, loss: Tensor) -> tuple[float, dict[str, Tensor]]:
    """A loss and its gradient in every weight."""
    trainer.model.zero_grad()
    loss.backward()
    gradients = {name: weight.grad.clone() for name, weight in trainer.model.named_parameters()}
    assert all(gradient.abs().max() > 0 for gradient in gradients.values())
    return loss.item(), gradients


def of_batch(trainer: Any, these: list[Row]) -> tuple[float, dict[str, Tensor]]:
    """Of AdaDPOTrainer, or of DPOTrainer."""
    with quiet():
        return measured(trainer, trainer.compute_loss(trainer.model, for_dpo(these)))


def assert_same(
    a: tuple[float, dict[str, Tensor]], b: tuple[float, dict[str, Tensor]], factor: float = 1.0
) -> None:
    """`a` is `factor` times `b` to 1e-5 of the largest gradient of each weight, about 100 float32 roundings.

    Of the loss too: a square of log-probabilities has ten times their rounding, and every kind of CPU its own.
    """
    assert a[0] == pytest.approx(factor * b[0], rel=1e-5)
    assert a[1].keys() == b[1].keys()
    for name, gradient in a[1].items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(
            gradient, factor * b[1][name], rtol=0, atol=1e-5 * scale, msg=lambda m, name=name: f"{name}: {m}"
        )


class TestDPOTrainer:
    @pytest.mark.parametrize(
        ("method", "loss_type", "beta", "factor"),
        [("dpo", "sigmoid", 0.1, 1.0), ("ipo", "ipo", 0.1, 1.0), ("ipo", "ipo", 0.7, 1.0),
         ("sppo", "sppo_hard", 0.001, 0.5), ("sppo", "sppo_hard", 0.5, 0.5)],
    )  # fmt: skip
    @pytest.mark.parametrize("forward", ["trl", "shared_prompt"])
    def test_the_same_loss_and_gradients(
        self, trainers: Any, method: str, loss_type: str, beta: float, factor: float, forward: str
    ) -> None:
        """Against DPOTrainer's own loss of that name, with a reference that differs from the policy.

        SPPO is half of TRL's: its paper (Wu et al. 2024, equation 4.7) writes 1/2, TRL sums the two squares.
        """
        stock = trainers(DPOTrainer, DPOConfig, True, loss_type=loss_type, beta=beta)
        mine = trainers(AdaDPOTrainer, AdaDPOConfig, True, method=method, beta=beta, forward=forward)
        assert_same(of_batch(mine, MIXED), of_batch(stock, MIXED), factor)

    @pytest.mark.parametrize("method", ["dpo", "ipo", "rdpo"])
    def test_balance_changes_it(self, trainers: Any, method: str) -> None:
        """Against the plain loss: the comparison above would notice."""
        mine = [trainers(AdaDPOTrainer, AdaDPOConfig, True, method=m) for m in (method, f"ada{method}")]
        found = [of_batch(trainer, MIXED) for trainer in mine]
        with pytest.raises(AssertionError):
            assert_same(*found)


class TestCPOTrainer:
    @pytest.mark.parametrize("forward", ["trl", "shared_prompt"])
    @pytest.mark.parametrize(("beta", "gamma"), [(2.0, 1.0), (2.5, 0.3)])
    def test_simpo(self, trainers: Any, beta: float, gamma: float, forward: str) -> None:
        """Against CPOTrainer's loss_type "simpo" with cpo_alpha 0; its simpo_gamma is gamma itself, as ours."""
        stock = trainers(
            CPOTrainer, CPOConfig, False, loss_type="simpo", cpo_alpha=0.0, simpo_gamma=gamma, beta=beta
        )
        mine = trainers(
            AdaDPOTrainer, AdaDPOConfig, False, method="simpo", beta=beta,
            method_options={"simpo_gamma": gamma}, forward=forward,
        )  # fmt: skip
        theirs = stock.get_batch_loss_metrics(stock.model, for_cpo(MIXED))[0]
        assert_same(of_batch(mine, MIXED), measured(stock, theirs))

    @pytest.mark.parametrize("alpha", [1.0, 0.2])
    def test_cpo(self, trainers: Any, alpha: float) -> None:
        """Against CPOTrainer's loss_type "sigmoid" where its NLL, a mean over the batch's tokens, is a mean over pairs.

        So it is for chosen responses of one length, and pair by pair for any: our loss is the mean of TRL's of each.
        """
        stock = trainers(CPOTrainer, CPOConfig, False, cpo_alpha=alpha, beta=0.1)
        mine = trainers(AdaDPOTrainer, AdaDPOConfig, False, method="cpo", method_options={"cpo_alpha": alpha})
        theirs = stock.get_batch_loss_metrics(stock.model, for_cpo(ONE_LENGTH))[0]
        assert_same(of_batch(mine, ONE_LENGTH), measured(stock, theirs))
        one_by_one = [stock.get_batch_loss_metrics(stock.model, for_cpo([row]))[0] for row in MIXED]
        assert_same(of_batch(mine, MIXED), measured(stock, torch.stack(one_by_one).mean()))


class TestORPOTrainer:
    @pytest.mark.parametrize("beta", [0.1, 1.0])
    def test_after_a_prompt_of_one_token(self, trainers: Any, beta: float) -> None:
        """Against ORPOTrainer's whole loss: its NLL over prompt and response is then that of the response alone."""
        stock = trainers(ORPOTrainer, ORPOConfig, False, beta=beta)
        mine = trainers(AdaDPOTrainer, AdaDPOConfig, False, method="orpo", beta=beta)
        theirs = stock.get_batch_loss_metrics(stock.model, for_cpo(ONE_TOKEN_PROMPTS))[0]
        assert_same(of_batch(mine, ONE_TOKEN_PROMPTS), measured(stock, theirs))

    def test_after_any_prompt(self, trainers: Any) -> None:
        """Against ORPOTrainer's odds term with the NLL exchanged: the response's alone for prompt and response."""
        stock = trainers(ORPOTrainer, ORPOConfig, False, beta=0.5)
        mine = trainers(AdaDPOTrainer, AdaDPOConfig, False, method="orpo", beta=0.5)
        chosen, rejected, _, _, whole_nll = stock.concatenated_forward(stock.model, for_cpo(MIXED))
        odds_term = -stock.odds_ratio_loss(chosen, rejected)[0].mean()
        response_nll = -chosen.mean()  # `chosen` are means over the response's tokens
        assert abs(whole_nll - response_nll) > 1e-2
        assert_same(of_batch(mine, MIXED), measured(stock, odds_term + response_nll))
