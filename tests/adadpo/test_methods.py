"""Methods and settings are checked against the tables of docs/methods.md; imports against sys.modules."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

import adadpo
from adadpo.config import Decoding, Lora, RunConfig, TrainSettings
from adadpo.method.registry import (
    BALANCE_OPTIONS,
    LOSS_OPTIONS,
    LOSSES,
    PRESETS,
    Method,
    make_method,
)


class TestMethods:
    def test_presets(self) -> None:
        """Against docs/methods.md: DPO has no balance; AdaDPO's is per token, clip 10, geometric, in the margin."""
        assert make_method("dpo") == Method(loss="dpo", beta=0.1, balance="none")
        assert make_method("adadpo").identity() == {
            "loss": "dpo",
            "beta": 0.1,
            "balance": "per_token",
            "balance_reference": False,
            "clip": 10.0,
            "normalization": "geometric",
            "placement": "margin",
        }

    def test_unknown_name_lists_the_choices(self) -> None:
        """Against the style's rule: the value and the choices."""
        with pytest.raises(ValueError, match=r"unknown method 'kto'.*" + ".*".join(PRESETS)):
            make_method("kto")

    @pytest.mark.parametrize(
        "wrong",
        [{"beta": 0}, {"beta": -1}, {"beta": float("nan")}, {"beta": float("inf")}, {"clip": 1}, {"clip": 0.5},
         {"balance": "token"}, {"normalization": "sum"}, {"placement": "loss"}, {"gamma": 1}],
        ids=str,
    )  # fmt: skip
    def test_impossible_hyperparameters_are_refused_by_name(self, wrong: dict[str, object]) -> None:
        """Against the allowed values of docs/methods.md."""
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            make_method("adadpo", **wrong)

    @pytest.mark.parametrize(
        "unused", [{"clip": 5.0}, {"clip": None}, {"placement": "margin"}, {"normalization": "mean", "clip": 2.0},
                   {"balance_reference": False}], ids=str,
    )  # fmt: skip
    def test_options_without_effect_are_refused_by_name(self, unused: dict[str, object]) -> None:
        """Against DPO's formula, which has none of them: two names for one method would be two runs."""
        with pytest.raises(ValidationError, match="no effect with balance: none") as caught:
            make_method("dpo", **unused)
        assert all(name in str(caught.value) for name in unused)

    def test_identity_leaves_out_what_has_no_effect(self) -> None:
        """Against the options of balance: absent for DPO, present for AdaDPO; a round trip gives the same method."""
        assert make_method("dpo", beta=0.3).identity() == {"loss": "dpo", "beta": 0.3, "balance": "none"}
        assert make_method("adadpo", balance="none").identity() == make_method("dpo").identity()
        assert set(BALANCE_OPTIONS) < set(make_method("adadpo").identity())
        for name in PRESETS:
            assert Method(**make_method(name).identity()) == make_method(name)

    def test_every_loss_of_the_table(self) -> None:
        """Against the table of docs/methods.md: six losses with an Ada form, two baselines, no unverified one."""
        assert list(PRESETS) == [
            "dpo", "adadpo", "rdpo", "adardpo", "ipo", "adaipo", "cpo", "adacpo", "simpo", "adasimpo", "orpo",
            "adaorpo", "dpop", "sppo",
        ]  # fmt: skip
        assert {name for name, loss in LOSSES.items() if not loss.needs_reference} == {"cpo", "simpo", "orpo"}

    @pytest.mark.parametrize("name", ["balanced-dpo", "Balanced-DPO", "SGDPO", "sgdpo"])
    def test_unverified_formulas_are_refused_with_the_reason(self, name: str) -> None:
        """Against docs/methods.md: cited by the AdaDPO paper, not read in a primary source, never guessed."""
        with pytest.raises(ValueError, match="is not implemented: its formula is not verified"):
            make_method(name)

    @pytest.mark.parametrize(
        ("name", "beta", "options"),
        [("dpo", 0.1, {}), ("rdpo", 0.1, {"rdpo_alpha": 0.05}), ("ipo", 0.1, {}), ("cpo", 0.1, {"cpo_alpha": 1.0}),
         ("simpo", 2.0, {"simpo_gamma": 1.0}), ("orpo", 0.1, {}), ("dpop", 0.3, {"dpop_lambda": 50.0}),
         ("sppo", 0.001, {})],
    )  # fmt: skip
    def test_defaults_and_identity(self, name: str, beta: float, options: dict[str, float]) -> None:
        """Against the papers and SimPO's repository: what identifies a base loss is its own hyperparameters."""
        expected = {"loss": name, "beta": beta, **options, "balance": "none"}
        assert make_method(name).identity() == expected
        assert make_method(name, beta=7).identity() == {**expected, "beta": 7}
        if LOSSES[name].can_balance:
            ada = {"balance": "per_token", "clip": 10.0, "normalization": "geometric", "placement": "margin"}
            if LOSSES[name].needs_reference:
                ada["balance_reference"] = False
            assert make_method(f"ada{name}").identity() == {**expected, **ada}

    @pytest.mark.parametrize("name", PRESETS)
    def test_hyperparameters_of_other_losses_are_refused(self, name: str) -> None:
        """Against the losses' own lists: refused by name, also at its default value, with the loss it belongs to."""
        own = LOSSES[PRESETS[name]["loss"]].hyperparameters
        for option in LOSS_OPTIONS:
            if option in own:
                assert make_method(name, **{option: 0.25}).identity()[option] == 0.25
                continue
            default = Method.model_fields[option].default
            owner = option.partition("_")[0]
            with pytest.raises(
                ValidationError, match=f"{option} has no effect on loss .*; {option} belongs to {owner}"
            ):
                make_method(name, **{option: default})

    @pytest.mark.parametrize("name", ["dpop", "sppo"])
    def test_baselines_are_not_balanced(self, name: str) -> None:
        """Against the table: a balance of one's own making would not be the published method."""
        with pytest.raises(
            ValidationError, match=f"balance sequence is not defined for loss {name}, a baseline only"
        ):
            make_method(name, balance="sequence")
        with pytest.raises(ValueError, match=f"unknown method 'ada{name}'"):
            make_method(f"ada{name}")

    @pytest.mark.parametrize("name", ["adacpo", "adasimpo", "adaorpo"])
    def test_no_reference_to_balance_by(self, name: str) -> None:
        """Against losses that have none."""
        with pytest.raises(
            ValidationError, match=r"balance_reference has no effect on loss .* no reference model"
        ):
            make_method(name, balance_reference=True)

    def test_a_loss_that_is_no_name(self) -> None:
        """Against the field in the message, whatever a file holds there."""
        for loss in (["dpo"], {"dpo": 1}, 3, None, "kto"):
            with pytest.raises(ValidationError, match="loss"):
                Method(loss=loss)

    def test_frozen(self) -> None:
        """Against accidental edits: a method is part of a run's identity."""
        with pytest.raises(ValidationError):
            make_method("dpo").beta = 1.0  # type: ignore[misc]


class TestSettings:
    @pytest.mark.parametrize(
        ("batch", "micro", "processes", "steps"),
        [(8, None, 1, 1), (8, 2, 1, 4), (8, 2, 2, 2), (8, None, 4, 1)],
    )
    def test_accumulation(self, batch: int, micro: int | None, processes: int, steps: int) -> None:
        """Against batch = micro x processes x steps."""
        found = TrainSettings(batch_size=batch, micro_batch_size=micro).accumulation_steps(processes)
        assert found == steps

    def test_uneven_splits_are_refused(self) -> None:
        """Against the same equation, without a whole number of steps."""
        with pytest.raises(ValidationError, match="8 is not a multiple of micro_batch_size 3"):
            TrainSettings(batch_size=8, micro_batch_size=3)
        with pytest.raises(ValueError, match="8 is not a multiple of micro_batch_size 2 x 3"):
            TrainSettings(batch_size=8).accumulation_steps(3)

    @pytest.mark.parametrize(
        ("model", "wrong"),
        [(TrainSettings, {"learning_rate": 0}), (TrainSettings, {"learning_rate": float("nan")}),
         (TrainSettings, {"epochs": float("inf")}), (TrainSettings, {"warmup": 1}), (TrainSettings, {"lr": 1e-6}),
         (Decoding, {"temperature": -0.1}), (Decoding, {"top_p": 0}), (Decoding, {"top_k": 5}), (Lora, {"r": 0})],
        ids=str,
    )  # fmt: skip
    def test_impossible_values_are_refused_by_name(self, model: type, wrong: dict[str, object]) -> None:
        """Against the ranges in config.py; unknown keys are not swallowed."""
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            model(**wrong)

    @pytest.mark.parametrize("name", sorted(PRESETS))
    def test_a_run_s_configuration_survives_json(self, name: str) -> None:
        """Against itself: the file beside a run's results gives back the run, for DPO without unused options."""
        config = RunConfig(
            model="m", data="d", heldout=None, method=make_method(name), seed=3,
            train=TrainSettings(lora=Lora(target_modules=("q_proj",))),
        )  # fmt: skip
        assert RunConfig.model_validate_json(config.model_dump_json()) == config
        assert RunConfig.model_validate(config.model_dump()) == config
        assert config.model_dump()["method"] == config.method.identity()


class TestImports:
    def test_naming_things_needs_no_torch(self) -> None:
        """Against sys.modules of a fresh interpreter: a sweep is checked in milliseconds."""
        code = (
            "import sys, adadpo, adadpo.method.registry, adadpo.config, adadpo.data.pairs;"
            "import adadpo.models.load, adadpo.data.tokens;"
            "adadpo.make_method('adadpo');"
            "print([m for m in ('torch', 'transformers', 'trl', 'datasets') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    def test_the_public_names(self) -> None:
        """No other name loads."""
        with pytest.raises(AttributeError, match="'adadpo' has no attribute 'nothing'"):
            adadpo.nothing  # type: ignore[attr-defined]  # noqa: B018
