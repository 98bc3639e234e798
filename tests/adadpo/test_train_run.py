"""NoWrap runs: what they write, and that a diverged one is never taken for a success."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from trl.trainer import dpo_trainer

import adadpo.training.train
import adadpo.training.trainer
from adadpo.config import Lora, TrainSettings
from adadpo.data.tokens import TokenPairs, tokenize_pairs
from adadpo.errors import DivergedError, ModelError
from adadpo.models.policy import Base, fresh_policy, load_base, load_policy
from adadpo.training.reference import pair_logps
from adadpo.training.train import LOGGED, TrainingData
from tests.adadpo.adadpo_examples import chats
from tests.adadpo.run_examples import Stop, config_of, history, identical, run, weights

FAST = {"optimizer": "sgd", "learning_rate": 0.3, "max_steps": 2}


@pytest.fixture(autouse=True)
def _cache(cache_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADADPO_CACHE", str(cache_root))


class TestWhatIsWritten:
    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    @pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
    def test_history_metrics_and_policy(
        self, base: Base, data: TrainingData, tmp_path: Path, lora: bool, precision: str
    ) -> None:
        """Against the run's definition: a line a step with every name, log 2 first, and a policy that loads."""
        config = config_of(lora=lora, precision=precision)
        own = load_base(base.source, config.train)
        before = {name: value.clone() for name, value in own.model.state_dict().items()}
        metrics = run(own, config, data, tmp_path)
        assert identical(before, own.model.state_dict())  # the base serves other runs too

        lines = history(tmp_path)
        assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
        assert all(set(line) == {"step", *LOGGED.values()} for line in lines)
        # Before the first update policy and reference are one, so every log-ratio is 0.
        assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-7)
        assert lines[0]["chosen_reward"] == lines[0]["rejected_reward"] == 0
        assert all(abs(line["log_gradient_ratio"]) < 1e-5 for line in lines)

        adapter = 4096 // 2  # rank 4 has 4096 on this model
        expected = {
            "steps": 6, "train_pairs": 11, "truncated_pairs": 0, "left_out": [], "heldout_pairs": 5,
            "trainable_parameters": adapter if lora else sum(p.numel() for p in own.model.parameters()),
        }  # fmt: skip
        assert {name: metrics[name] for name in expected} == expected
        assert metrics["train_loss"] == pytest.approx(sum(line["loss"] for line in lines) / 6, rel=1e-12)
        assert set(metrics) == {
            *expected, "train_loss", "heldout_reward_margin", "heldout_reward_accuracy", "heldout_chosen_logps",
            "heldout_rejected_logps", "heldout_log_gradient_ratio", "heldout_clipped_share",
        }  # fmt: skip
        assert all(math.isfinite(value) for name, value in metrics.items() if name != "left_out")

        # The saved policy, loaded again, gives the held-out log-probabilities of the trained one.
        saved = tmp_path / ("adapter" if lora else "model")
        policy = load_policy(own, saved, config.train)
        assert data.heldout is not None
        again = pair_logps(policy, data.heldout, pad_token_id=0, max_length=64)
        close = 1e-6 if precision == "float32" else 2e-3
        assert again["chosen"].mean().item() == pytest.approx(metrics["heldout_chosen_logps"], rel=close)
        assert again["rejected"].mean().item() == pytest.approx(metrics["heldout_rejected_logps"], rel=close)
        assert {f.name for f in tmp_path.iterdir()} <= {"history.jsonl", "checkpoints", saved.name}
        assert not list(saved.rglob("ref"))  # TRL's second adapter stays out
        assert not list((tmp_path / "checkpoints").glob("checkpoint-*"))

    def test_no_held_out_pairs(self, base: Base, data: TrainingData, tmp_path: Path) -> None:
        """Against the metrics' names: nothing about pairs that are not there."""
        metrics = run(base, config_of(max_steps=1), TrainingData(data.train, None), tmp_path)
        assert not [name for name in metrics if name.startswith("heldout")]

    @pytest.mark.parametrize(
        "options",
        [{"forward": "trl", "micro_batch_size": 4}, {"forward": "trl", "gradient_checkpointing": True},
         {"gradient_checkpointing": True, "micro_batch_size": 1}],
        ids=str,
    )  # fmt: skip
    def test_options_of_speed_do_not_change_the_result(
        self, base: Base, data: TrainingData, tmp_path: Path, whole: Any, options: dict[str, Any]
    ) -> None:
        """Against the plain run with SGD: forward pass, gradient checkpointing and micro-batches within 1e-6."""
        run(base, config_of(**{**FAST, **options}), data, tmp_path)
        plain, found = weights(whole(config_of(**FAST))[0]), weights(tmp_path)
        assert all((plain[name] - found[name]).abs().max() < 1e-6 for name in plain)

    @pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
    def test_without_caches(
        self, base: Base, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: bool
    ) -> None:
        """Against runs that compute the cache's files and that read them, bit for bit; it looks at none itself."""
        monkeypatch.setenv("ADADPO_CACHE", str(tmp_path / "cache"))
        runs = []
        for number, caches in enumerate([True, True, False]):
            if not caches:
                monkeypatch.delattr(adadpo.training.train, "cached_pair_logps")
            base.logps.clear()
            folder = tmp_path / str(number)
            metrics = run(base, config_of(lora=lora, max_steps=2, caches=caches), data, folder)
            runs.append((metrics, history(folder), weights(folder, lora)))
        computed, read, own = runs
        assert computed[:2] == read[:2] == own[:2]
        assert identical(computed[2], read[2])
        assert identical(computed[2], own[2])

    def test_the_model_is_not_hashed(
        self, base: Base, data: TrainingData, tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Against TRL's own hash, which here cannot run and is back afterwards; nothing of a run depends on it."""

        def refuse(module: Any) -> str:
            raise AssertionError("hashed")

        folder, metrics = whole(config_of(**FAST))
        monkeypatch.setattr(dpo_trainer, "hash_module", refuse)
        assert run(base, config_of(**FAST), data, tmp_path) == metrics
        assert identical(weights(folder), weights(tmp_path))
        assert dpo_trainer.hash_module is refuse

    def test_a_folder_that_holds_no_policy(self, base: Base, tmp_path: Path) -> None:
        """Against one plain error that names the folder."""
        for lora in (False, True):
            with pytest.raises(ModelError, match=r"trained model in .* could not be loaded"):
                load_policy(base, tmp_path, config_of(lora=lora).train)


HELDOUT = ["reward_margin", "reward_accuracy", "chosen_logps", "rejected_logps", "log_gradient_ratio",
           "clipped_share", "pairs"]  # fmt: skip


class TestWithoutReference:
    @pytest.mark.parametrize(("method", "lora"), [("simpo", False), ("adacpo", True), ("adaorpo", False)])
    def test_no_reference_pass(
        self, base: Base, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        method: str, lora: bool,
    ) -> None:  # fmt: skip
        """Against a reference pass that cannot run: none is made or saved, and the held-out pairs are scored."""

        def refuse(*args: Any, **kwargs: Any) -> Any:
            raise AssertionError("a reference pass")

        monkeypatch.setattr(adadpo.training.train, "cached_pair_logps", refuse)
        config = config_of(method, lora=lora, max_steps=2, checkpoint_steps=1)
        metrics = run(base, config, data, tmp_path)
        assert {name for name in metrics if name.startswith("heldout_")} == {f"heldout_{n}" for n in HELDOUT}
        assert all(set(line) == {"step", *LOGGED.values()} for line in history(tmp_path))
        assert not list(tmp_path.rglob("ref"))
        names = list(weights(tmp_path, lora))
        assert names
        assert not [name for name in names if ".ref." in name]
        with pytest.raises(AssertionError, match="a reference pass"):
            run(base, config_of("adadpo", lora=lora), data, tmp_path / "other")

    def test_its_metrics(self, base: Base, data: TrainingData, whole: Any) -> None:
        """Against beta times the mean log-probabilities of the saved policy's held-out pairs, SimPO's reward."""
        folder, metrics = whole(config_of("simpo", **FAST))
        assert data.heldout is not None
        policy = load_policy(base, folder / "model", config_of().train)
        found = pair_logps(policy, data.heldout, pad_token_id=0, max_length=64)
        means = [found[side] / found[f"{side}_lengths"] for side in ("chosen", "rejected")]
        expected = 2.0 * (means[0] - means[1]).double()
        assert metrics["heldout_reward_margin"] == pytest.approx(expected.mean().item(), rel=1e-5)
        assert metrics["heldout_reward_accuracy"] == (expected > 0).double().mean().item()
        assert metrics["heldout_log_gradient_ratio"] == pytest.approx(
            (means[1] - means[0]).mean().item(), rel=1e-5
        )


class TestOnTheWay:
    @pytest.mark.parametrize(
        ("method", "lora", "precision"),
        [("adadpo", True, "float32"), ("adasimpo", False, "float32"), ("adadpo", False, "bfloat16")],
    )
    def test_measuring_and_keeping_change_nothing(
        self,
        base: Base,
        data: TrainingData,
        tmp_path: Path,
        whole: Any,
        method: str,
        lora: bool,
        precision: str,
    ) -> None:
        """Against the run without: weights and metrics bit for bit, and lines that differ by held-out numbers only.

        Those are on every second step but the last, which `train_run` itself measures.
        """
        options = {"lora": lora, "precision": precision}
        expected, metrics = whole(config_of(method, **options))
        config = config_of(method, **options, eval_steps=2, snapshot_steps=3)
        assert run(base, config, data, tmp_path) == metrics
        assert identical(weights(expected, lora), weights(tmp_path, lora))
        lines = history(tmp_path)
        measured = [{k: v for k, v in line.items() if k.startswith("heldout_")} for line in lines]
        assert [sorted(found) for found in measured] == [
            sorted(f"heldout_{name}" for name in HELDOUT) if step in (2, 4) else [] for step in range(1, 7)
        ]
        plain = [{k: v for k, v in line.items() if not k.startswith("heldout_")} for line in lines]
        assert plain == history(expected)
        assert measured[1]["heldout_reward_margin"] != measured[3]["heldout_reward_margin"]

        assert [folder.name for folder in (tmp_path / "snapshots").iterdir()] == ["step-3"]
        load_policy(base, tmp_path / "snapshots" / "step-3", config.train)

    @pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
    def test_a_snapshot_is_the_policy_of_its_step(
        self, base: Base, data: TrainingData, tmp_path: Path, lora: bool
    ) -> None:
        """Against the policy of a run that ends there, same schedule; it loads, and scores as the line of that step."""
        constant = {"scheduler": "constant", "warmup": 0, "lora": lora}
        run(base, config_of(max_steps=2, **constant), data, tmp_path / "ends")
        config = config_of(max_steps=4, snapshot_steps=1, eval_steps=1, **constant)
        run(base, config, data, tmp_path / "goes on")
        snapshots = tmp_path / "goes on" / "snapshots"
        assert sorted(folder.name for folder in snapshots.iterdir()) == ["step-1", "step-2", "step-3"]
        file = "adapter_model.safetensors" if lora else "model.safetensors"
        assert identical(load_file(snapshots / "step-2" / file), weights(tmp_path / "ends", lora))
        assert data.heldout is not None
        for step in (1, 2, 3):
            policy = load_policy(base, snapshots / f"step-{step}", config.train)
            found = pair_logps(policy, data.heldout, pad_token_id=0, max_length=64)
            line = history(tmp_path / "goes on")[step - 1]
            assert found["chosen"].mean().item() == pytest.approx(line["heldout_chosen_logps"], rel=1e-6)

    def test_a_killed_run_leaves_no_half_snapshot(
        self, base: Base, data: TrainingData, tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Against the uninterrupted run: killed while snapshot 4 was written, then again after snapshot 5.

        What has a snapshot's name is whole at any time; snapshots of steps that are done again are written again.
        """
        expected, metrics = whole(config_of(eval_steps=1, snapshot_steps=1))
        config = config_of(eval_steps=1, snapshot_steps=1, checkpoint_steps=3)
        real = adadpo.training.train.save_policy

        def dies(policy: Any, folder: Path, weights: Any) -> None:
            if folder.name.endswith("step-4"):
                folder.mkdir(parents=True)
                (folder / "model.safetensors").write_bytes(b"half")
                raise Stop
            real(policy, folder, weights)

        monkeypatch.setattr(adadpo.training.train, "save_policy", dies)
        with pytest.raises(Stop):
            run(base, config, data, tmp_path)
        names = [f"step-{step}" for step in (1, 2, 3)]
        assert sorted(f.name for f in (tmp_path / "snapshots").glob("step-*")) == names
        monkeypatch.setattr(adadpo.training.train, "save_policy", real)
        with pytest.raises(Stop):
            run(base, config, data, tmp_path, stop_at=5)
        # A later attempt finds this one, and must not take it for its own.
        (tmp_path / "snapshots" / "step-5" / "model.safetensors").write_bytes(b"older")
        assert run(base, config, data, tmp_path) == metrics
        assert identical(weights(tmp_path), weights(expected))
        assert history(tmp_path) == history(expected)
        found = {f.name: load_file(f / "model.safetensors") for f in (tmp_path / "snapshots").iterdir()}
        assert sorted(found) == [f"step-{step}" for step in (1, 2, 3, 4, 5)]
        for name, kept in found.items():
            assert identical(kept, load_file(expected / "snapshots" / name / "model.safetensors"))

    def test_nothing_held_out(self, base: Base, data: TrainingData, tmp_path: Path) -> None:
        """Against the plain lines: eval_steps without held-out pairs adds nothing."""
        run(base, config_of(eval_steps=1, max_steps=2), TrainingData(data.train, None), tmp_path)
        assert all(set(line) == {"step", *LOGGED.values()} for line in history(tmp_path))

    def test_diverging_on_the_way(
        self, base: Base, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Against the step whose held-out numbers are NaN; its line is not written."""

        def broken(*args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
            return {name: value * float("nan") for name, value in pair_logps(*args, **kwargs).items()}

        monkeypatch.setattr(adadpo.training.train, "pair_logps", broken)
        with pytest.raises(DivergedError, match="diverged at step 2: held-out reward margin is nan"):
            run(base, config_of(eval_steps=2), data, tmp_path)
        assert [line["step"] for line in history(tmp_path)] == [1]

    def test_identity(self) -> None:
        """Against the settings as they were before anything could be done on the way: the same words."""
        plain = TrainSettings().model_dump()
        assert not {"eval_steps", "snapshot_steps"} & set(plain)
        assert TrainSettings(eval_steps=None, snapshot_steps=None).model_dump() == plain
        assert TrainSettings(eval_steps=2).model_dump() == {**plain, "eval_steps": 2}
        assert json.loads(TrainSettings(snapshot_steps=3).model_dump_json()) == {**plain, "snapshot_steps": 3}
        assert TrainSettings(**TrainSettings(eval_steps=2).model_dump()).eval_steps == 2


class TestPairs:
    def test_every_arm_sees_the_same(self, base: Base, data: TrainingData, tmp_path: Path) -> None:
        """Against each other's log-probabilities at a learning rate that moves nothing: order and adapters agree.

        One seed means the same initial weights, the same examples and the same order.
        """
        found = {}
        for name, seed in (("dpo", 1), ("adadpo", 1), ("dpo", 2)):
            folder = tmp_path / f"{name}{seed}"
            run(
                base,
                config_of(name, seed, lora=True, learning_rate=1e-30, epochs=1, max_steps=3),
                data,
                folder,
            )
            found[name, seed] = [line["chosen_logps"] for line in history(folder)]
        assert found["dpo", 1] == found["adadpo", 1]
        assert found["dpo", 1] != found["dpo", 2]

    def test_adapters_depend_on_the_seed_alone(self, base: Base) -> None:
        """Against torch's global state, set differently before."""
        settings = config_of(lora=True).train
        made = []
        for state, seed in ((5, 1), (6, 1), (5, 2)):
            torch.manual_seed(state)
            made.append(fresh_policy(base, settings, seed).state_dict())
        assert identical(made[0], made[1])
        assert not identical(made[0], made[2])

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_frozen_weights_are_the_base_s(
        self, base: Base, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
    ) -> None:
        """Against runs on a copy, bit for bit; adapters are put on the base's memory, before and after training."""
        config = config_of(lora=True, precision=precision, max_steps=2)
        own = load_base(base.source, config.train)
        before = copy.deepcopy(own.model.state_dict())
        at = {weight.data_ptr() for weight in own.model.parameters()}

        def frozen(policy: Any) -> set[int]:
            return {weight.data_ptr() for weight in policy.parameters() if weight.shape in shapes}

        shapes = {weight.shape for weight in own.model.parameters()}
        run(own, config, data, tmp_path / "shared")
        loaded = load_policy(own, tmp_path / "shared" / "adapter", config.train)
        assert frozen(fresh_policy(own, config.train, 1)) == frozen(loaded) == at
        assert identical(before, own.model.state_dict())
        with monkeypatch.context() as patch:
            patch.setattr(
                adadpo.training.train,
                "fresh_policy",
                lambda *args, **_: fresh_policy(*args, own_weights=True),
            )
            run(own, config, data, tmp_path / "copied")
        assert not at & frozen(fresh_policy(own, config.train, 1, own_weights=True))
        assert history(tmp_path / "shared") == history(tmp_path / "copied")
        assert identical(weights(tmp_path / "shared", lora=True), weights(tmp_path / "copied", lora=True))
        # What a full fine-tune trains is never the base's.
        assert not at & frozen(fresh_policy(own, config.train.model_copy(update={"lora": None}), 1))

    def test_unknown_modules(self, base: Base) -> None:
        """Against the name in the message."""
        settings = config_of().train.model_copy(update={"lora": Lora(target_modules=("nothing",))})
        with pytest.raises(ModelError, match=r"target_modules \('nothing',\)"):
            fresh_policy(base, settings, 0)

    def test_runs_repeat_bit_for_bit(
        self, base: Base, data: TrainingData, tmp_path: Path, whole: Any
    ) -> None:
        """Against itself, another seed and the other method."""
        first = whole(config_of(**FAST))[0]
        for name, config in (
            ("a", config_of(**FAST)),
            ("b", config_of(seed=2, **FAST)),
            ("c", config_of("dpo", **FAST)),
        ):
            run(base, config, data, tmp_path / name)
        again, seed, dpo = (weights(tmp_path / name) for name in "abc")
        assert identical(weights(first), again)
        assert history(first) == history(tmp_path / "a")
        assert not identical(again, seed)
        assert not identical(again, dpo)


class TestDivergence:
    def test_an_absurd_learning_rate(self, base: Base, data: TrainingData, tmp_path: Path) -> None:
        """Against the step after the first update, where 1e30-sized weights give no number."""
        config = config_of(learning_rate=1e30, optimizer="sgd", scheduler="constant", warmup=0)
        with pytest.raises(
            DivergedError, match=r"diverged at step 2: (loss|grad norm) is (nan|inf)"
        ) as caught:
            run(base, config, data, tmp_path)
        assert caught.value.step == 2
        assert not (tmp_path / "model").exists()
        assert [line["step"] for line in history(tmp_path)] == [1]  # numbers only, so it stays JSON

    def test_diverging_in_the_last_step(
        self, base: Base, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Against held-out log-probabilities made NaN: the last update shows in no training loss."""

        def broken(*args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
            return {name: value * float("nan") for name, value in pair_logps(*args, **kwargs).items()}

        monkeypatch.setattr(adadpo.training.train, "pair_logps", broken)
        with pytest.raises(DivergedError, match="diverged at step 2: held-out reward margin is nan"):
            run(base, config_of(**FAST), data, tmp_path)
        assert not (tmp_path / "model").exists()

    @pytest.mark.parametrize("value", ["nan", "inf"])
    def test_a_loss_that_is_no_number(
        self, base: Base, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        """Against the third step, in one of whose two micro-batches the loss is made NaN or infinite."""
        calls = iter(range(100))
        real = adadpo.training.trainer.preference_loss

        def broken(*args: Any, **kwargs: Any) -> Any:
            result = real(*args, **kwargs)
            return result._replace(loss=result.loss * (float(value) if next(calls) == 4 else 1.0))

        monkeypatch.setattr(adadpo.training.trainer, "preference_loss", broken)
        with pytest.raises(DivergedError) as caught:
            run(base, config_of(micro_batch_size=2, max_steps=4), data, tmp_path)
        assert str(caught.value) == f"diverged at step 3: loss is {value}"
        assert (caught.value.step, caught.value.quantity) == (3, "loss")
        assert not (tmp_path / "model").exists()

    def test_left_out_and_truncated_pairs_are_reported(self, base: Base, tmp_path: Path) -> None:
        """Against the counts of the token ids: 11 pairs cut to 30 tokens."""
        cut: TokenPairs = tokenize_pairs(chats(11), base.tokenizer, 30)
        assert cut.dropped
        assert cut.truncated
        metrics = run(
            base, config_of(max_length=30, max_steps=2), TrainingData(cut, None, ["pair 3"]), tmp_path
        )
        assert metrics["left_out"] == ["pair 3"]
        assert metrics["truncated_pairs"] == cut.truncated
        assert metrics["train_pairs"] == len(cut) == 11 - len(cut.dropped)
