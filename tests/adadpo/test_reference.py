"""Reference log-probabilities are checked against plain forwards, their cache against a model that cannot run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import adadpo.training.reference
from adadpo.caches import Memory
from adadpo.data.tokens import TokenPairs, tokenize_pairs
from adadpo.errors import StoppedError
from adadpo.logprobs import PairLogps
from adadpo.method.registry import make_method
from adadpo.models.policy import Base
from adadpo.training.processes import Processes
from adadpo.training.reference import cached_pair_logps, pair_logps, reward_summary
from tests.adadpo.adadpo_examples import chats, plain_token_logps

NAMES = ["chosen", "chosen_lengths", "rejected", "rejected_lengths"]


@pytest.fixture(scope="module")
def pairs(base: Base) -> TokenPairs:
    return tokenize_pairs(chats(7), base.tokenizer, 64)


@pytest.fixture
def options(base: Base) -> dict[str, Any]:
    return {"pad_token_id": base.tokenizer.pad_token_id, "max_length": 64}


def computed(batch: dict[str, torch.Tensor]) -> PairLogps:
    """Numbers for a batch, without a model."""
    count = len(batch["input_ids"]) // 2
    return PairLogps(*[torch.zeros(count)] * 2, *[torch.ones(count, dtype=torch.long)] * 2)


class Untouchable:
    """Stands for a model whose forward must not run; the key may look at it."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, like: Any) -> None:
        self.config = like.config


class Pretended(Processes):
    """A process of a group whose words are a list; the real groups are those of test_runs_in_processes.py."""

    def __init__(self, rank: int, said: list[Any] | None = None) -> None:
        super().__init__()
        self.rank, self.said = rank, [] if said is None else said

    def from_first(self, value: Any) -> Any:
        if self.rank:
            return self.said.pop(0)
        self.said.append(value)
        return value

    def share(self, items: Any) -> Any:
        return list(items)


def files(cache: Path) -> list[Path]:
    return sorted((cache / "reference").glob("*.safetensors"))


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return sorted(a) == sorted(b) == NAMES and all(torch.equal(a[name], b[name]) for name in NAMES)


class TestPairLogps:
    @pytest.mark.parametrize("batch_size", [1, 3, 8])
    def test_in_the_order_of_the_pairs(
        self, base: Base, pairs: TokenPairs, options: dict[str, Any], batch_size: int
    ) -> None:
        """Against one plain forward per sequence, whatever the batches; the last one is incomplete."""
        seen: list[tuple[int, int]] = []
        found = pair_logps(
            base.model, pairs, **options, batch_size=batch_size, on_progress=lambda *p: seen.append(p)
        )
        for side, ids in (("chosen", pairs.chosen_ids), ("rejected", pairs.rejected_ids)):
            with torch.no_grad():
                expected = [
                    plain_token_logps(base.model, p, r).sum().item()
                    for p, r in zip(pairs.prompt_ids, ids, strict=True)
                ]
            assert found[side].tolist() == pytest.approx(expected, rel=1e-5)
            assert found[f"{side}_lengths"].tolist() == [len(r) for r in ids]
            assert found[side].dtype == torch.float32
        assert seen[-1] == (7, 7)
        assert len(seen) == math.ceil(7 / batch_size)

    def test_a_model_can_still_be_trained_afterwards(
        self, fresh_model: Any, pairs: TokenPairs, options: Any
    ) -> None:
        """Against torch's refusal to save inference tensors for backward: nothing of the pass stays in the model."""
        model = fresh_model()
        with torch.autocast("cpu", torch.bfloat16):
            pair_logps(model, pairs, **options)
        with torch.autocast("cpu", torch.bfloat16):
            model(input_ids=torch.tensor([pairs.prompt_ids[0]])).logits.sum().backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


class TestCache:
    def test_a_hit_is_the_same_and_calls_no_model(
        self, base: Base, pairs: TokenPairs, options: dict[str, Any], empty_cache: Path
    ) -> None:
        """Against the first computation, bit for bit; the second is given something that cannot compute."""
        first = cached_pair_logps(base.model, pairs, model_identity="m", **options)
        assert same(first, pair_logps(base.model, pairs, **options))
        assert same(cached_pair_logps(Untouchable(base.model), pairs, model_identity="m", **options), first)
        assert len(files(empty_cache)) == 1

    @pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "a bit", "other length", "other names"])
    def test_a_broken_file_is_computed_again(
        self, base: Base, pairs: TokenPairs, options: dict[str, Any], empty_cache: Path, damage: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        """Against the first computation: what a full disk or a killed process may leave is never believed, and told."""
        from safetensors.torch import save_file

        first = cached_pair_logps(base.model, pairs, model_identity="m", **options)
        (file,) = files(empty_cache)
        assert "damaged" not in caplog.text
        if damage == "empty":
            file.write_bytes(b"")
        elif damage == "cut":
            file.write_bytes(file.read_bytes()[:-9])
        elif damage == "garbage":
            file.write_bytes(b"\xff" * 300)
        elif damage == "a bit":
            content = file.read_bytes()
            file.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        elif damage == "other length":
            save_file({name: value[:3] for name, value in first.items()}, file)
        else:
            save_file({"chosen": first["chosen"]}, file)
        assert same(cached_pair_logps(base.model, pairs, model_identity="m", **options), first)
        assert f"reference log-probabilities of 7 pairs: {file} is damaged" in caplog.text
        assert same(cached_pair_logps(Untouchable(base.model), pairs, model_identity="m", **options), first)

    def test_everything_the_numbers_depend_on_is_in_the_key(
        self, base: Base, pairs: TokenPairs, options: dict[str, Any], empty_cache: Path, fresh_model: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        """Against the number of files: model, its commit, cut, token ids, attention, dtype and autocast: one each."""
        monkeypatch.setenv("ADADPO_CACHE", str(empty_cache))
        other = tokenize_pairs(chats(6), base.tokenizer, 64)
        half = fresh_model("bfloat16")
        monkeypatch.setenv("ADADPO_CACHE", str(empty_cache))
        at_commit, eager = fresh_model(), fresh_model()
        at_commit.config._commit_hash = "abc"
        eager.config._attn_implementation = "sdpa_of_another_kind"
        monkeypatch.setattr(
            adadpo.training.reference, "packed_pair_logps", lambda model, batch: computed(batch)
        )
        calls: list[tuple[Any, TokenPairs, dict[str, Any]]] = [
            (base.model, pairs, {"model_identity": "m", **options}),
            (base.model, pairs, {"model_identity": "n", **options}),
            (base.model, pairs, {"model_identity": "m", **options, "max_length": 50}),
            (base.model, other, {"model_identity": "m", **options}),
            (half, pairs, {"model_identity": "m", **options}),
            (at_commit, pairs, {"model_identity": "m", **options}),
            (eager, pairs, {"model_identity": "m", **options}),
        ]
        for count, (model, these, keywords) in enumerate(calls, start=1):
            cached_pair_logps(model, these, **keywords)
            assert len(files(empty_cache)) == count
        with torch.autocast("cpu", torch.bfloat16):
            cached_pair_logps(base.model, pairs, model_identity="m", **options)
        assert len(files(empty_cache)) == len(calls) + 1
        cached_pair_logps(base.model, pairs, model_identity="m", **options, batch_size=2)  # rounding, no more
        assert len(files(empty_cache)) == len(calls) + 1

    @pytest.mark.parametrize("known", [False, True])
    def test_the_first_of_several_decides(
        self, base: Base, pairs: TokenPairs, options: dict[str, Any], empty_cache: Path, known: bool
    ) -> None:
        """Against one process: whether the file is there is the first one's to say, and the others hear all of it."""
        alone = pair_logps(base.model, pairs, **options)
        if known:
            cached_pair_logps(base.model, pairs, model_identity="m", **options)
        first = Pretended(0)
        assert same(
            cached_pair_logps(base.model, pairs, model_identity="m", processes=first, **options), alone
        )
        assert [word for word, _ in first.said] == ["known" if known else "compute"]
        for file in files(empty_cache):
            file.unlink()
        other = Pretended(1, first.said)
        model = Untouchable(base.model) if known else base.model
        assert same(cached_pair_logps(model, pairs, model_identity="m", processes=other, **options), alone)
        assert not files(empty_cache)  # the first one writes

    def test_a_request_to_stop_reaches_all(
        self, base: Base, pairs: TokenPairs, options: dict[str, Any], empty_cache: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        """The first process is asked to stop while it waits for another sweep's: all leave together, by its word."""

        def asked(*args: Any) -> None:
            raise StoppedError("asked to stop")

        monkeypatch.setattr(adadpo.training.reference, "computed_once", asked)
        first = Pretended(0)
        with pytest.raises(StoppedError):
            cached_pair_logps(base.model, pairs, model_identity="m", processes=first, **options)
        with pytest.raises(StoppedError):
            cached_pair_logps(
                base.model, pairs, model_identity="m", processes=Pretended(1, first.said), **options
            )

    def test_a_failed_computation_leaves_nothing(
        self, base: Base, pairs: TokenPairs, options: dict[str, Any], empty_cache: Path
    ) -> None:
        """Against an empty folder: a model that fails must not leave a file that looks whole, nor keep the lock."""
        with pytest.raises(AttributeError):
            cached_pair_logps(Untouchable(base.model), pairs, model_identity="m", **options)
        assert [file.suffix for file in empty_cache.rglob("*.*")] == [".lock"]
        found = cached_pair_logps(base.model, pairs, model_identity="m", **options)
        assert same(found, pair_logps(base.model, pairs, **options))

    def test_what_a_process_knows_is_read_once(
        self, base: Base, pairs: TokenPairs, options: dict[str, Any], empty_cache: Path
    ) -> None:
        """Against a cache whose file is gone: the second run of a process has it from memory."""
        memory: Memory = {}
        first = cached_pair_logps(base.model, pairs, model_identity="m", memory=memory, **options)
        (file,) = files(empty_cache)
        file.unlink()
        found = cached_pair_logps(
            Untouchable(base.model), pairs, model_identity="m", memory=memory, **options
        )
        assert same(found, first)
        assert not files(empty_cache)


class TestRewards:
    def test_by_hand(self) -> None:
        """Against beta times (r_w - r_l) on paper: margins 0.5 (2, -1, 0, 4) = (1, -0.5, 0, 2); a tie is half right."""
        lengths = {"chosen_lengths": torch.ones(4), "rejected_lengths": torch.ones(4)}
        policy = lengths | {
            "chosen": torch.tensor([-1.0, -2.0, -3.0, -4.0]),
            "rejected": torch.tensor([-5.0, -5.0, -5.0, -9.0]),
        }
        reference = {
            "chosen": torch.tensor([-2.0, -2.0, -4.0, -6.0]),
            "rejected": torch.tensor([-4.0, -6.0, -6.0, -7.0]),
        }
        found = reward_summary(make_method("dpo", beta=0.5), policy, reference)
        assert found == {
            "reward_margin": pytest.approx(2.5 / 4),
            "reward_accuracy": 2.5 / 4,
            "chosen_logps": -2.5,
            "rejected_logps": -6.0,
            "log_gradient_ratio": -3.5,  # mean of a_l - a_w
            "clipped_share": 0.0,
            "pairs": 4,
        }

    def test_an_untrained_policy_is_undecided(
        self, base: Base, pairs: TokenPairs, options: dict[str, Any]
    ) -> None:
        """Against 0 margin and 50%: every pair is a tie."""
        found = pair_logps(base.model, pairs, **options)
        assert reward_summary(make_method("dpo"), found, found)["reward_margin"] == 0
        assert reward_summary(make_method("dpo"), found, found)["reward_accuracy"] == 0.5
