"""Runs trained by several processes: with the same effective batch the numbers of one process, whatever the split."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adadpo.config import RunConfig
from adadpo.data.batching import micro_batch_shares
from adadpo.models.policy import Base
from adadpo.training.train import TrainingData
from tests.adadpo.run_examples import config_of, history, run, weights

PLAIN = {"optimizer": "sgd", "learning_rate": 0.3, "eval_steps": 2}
# 11 pairs in steps of 4: the last one of an epoch has 3, so 4 processes fill it up with a duplicate.
CASES: dict[str, tuple[str, RunConfig]] = {
    "ddp, shared prompt": ("ddp", config_of(**PLAIN, micro_batch_size=1, snapshot_steps=3)),
    "ddp, trl's forward": ("ddp", config_of("adasimpo", **PLAIN, micro_batch_size=1, forward="trl")),
    "ddp, adapters": ("ddp", config_of(lora=True, **PLAIN, micro_batch_size=1)),
    "ddp, by length": ("ddp", config_of(**PLAIN, micro_batch_size=1, batching="by_length")),
    "fsdp": ("fsdp", config_of(**PLAIN, micro_batch_size=1, gradient_checkpointing=True)),
}
ZERO3 = ("zero3", config_of(**PLAIN, micro_batch_size=1))


def torchrun(processes: int, root: Path, cases: dict[str, tuple[str, RunConfig]], **environ: str) -> str:
    """Train the cases one after another in some processes; returns what they said."""
    written = [
        {"name": name, "strategy": strategy, "config": config.model_dump(mode="json")}
        for name, (strategy, config) in cases.items()
    ]
    (root / "cases.json").write_text(json.dumps(written))
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        str(processes),
    ]
    done = subprocess.run(
        [*launcher, "-m", "tests.adadpo.runs_in_processes", str(root), str(root / "cases.json")],
        cwd=Path(__file__).parents[2],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return done.stdout + done.stderr


@pytest.fixture(autouse=True)
def _cache(cache_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADADPO_CACHE", str(cache_root))


@pytest.fixture(scope="module")
def four(base: Base, cache_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every case by four processes, with an empty cache of reference log-probabilities."""
    folder = tmp_path_factory.mktemp("four")
    cache = folder / "cache"
    cache.mkdir()
    (cache / "models").symlink_to(cache_root / "models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADADPO_CACHE", str(cache))
        (folder / "said").write_text(torchrun(4, folder, CASES))
    return folder


@pytest.mark.parametrize("name", CASES)
def test_four_processes_train_what_one_does(
    base: Base, data: TrainingData, four: Path, tmp_path: Path, name: str
) -> None:
    """Against one process with the whole batch in one pass: see `same_as_one`."""
    same_as_one(base, data, four / name, CASES[name][1], tmp_path)


def test_two_processes_of_zero3(
    base: Base, data: TrainingData, tmp_path: Path, deepspeed: dict[str, str]
) -> None:
    """Against one process with the whole batch in one pass: see `same_as_one`."""
    torchrun(2, tmp_path, {"many": ZERO3}, **deepspeed)
    same_as_one(base, data, tmp_path / "many", ZERO3[1], tmp_path / "one")


def same_as_one(base: Base, data: TrainingData, many: Path, config: RunConfig, folder: Path) -> None:
    """What several processes left in `many` is what one leaves in `folder`, float32: weights and numbers to 1e-6.

    Sums of some -100 nats agree to 1e-6 of their size. Everything is in the history that was there with one.
    """
    plain = config.model_copy(update={"train": config.train.model_copy(update={"micro_batch_size": None})})
    metrics, lora = run(base, plain, data, folder), config.train.lora is not None
    expected, found = weights(folder, lora), weights(many, lora)
    assert expected.keys() == found.keys()
    untrained = dict(base.model.named_parameters())
    for key, weight in expected.items():
        assert (found[key] - weight).abs().max() < 1e-6
        assert lora or (untrained[key] - weight).abs().max() > 1e-5  # they moved
    lines = history(many)
    assert [line.keys() for line in lines] == [line.keys() for line in history(folder)]
    for line, one in zip(lines, history(folder), strict=True):
        assert line == pytest.approx(one, rel=1e-6, abs=2e-6)
    theirs = json.loads((many / "metrics.json").read_text())
    assert theirs.pop("left_out") == metrics.pop("left_out") == []
    assert theirs == pytest.approx(metrics, rel=2e-6, abs=1e-6)
    kept = sorted(path.name for path in (folder / "snapshots").glob("*"))
    assert sorted(path.name for path in (many / "snapshots").glob("*")) == kept


def test_the_reference_is_computed_once(four: Path) -> None:
    """Against the files of the cache, and what was said: for adapters on a plain model and for a whole one the same.

    Two sets of pairs, whose log-probabilities four processes computed together, once for all cases.
    """
    assert (four / "said").read_text().count(" pairs: computed in ") == 2
    assert len(list((four / "cache" / "reference").glob("*.safetensors"))) == 2


@pytest.mark.parametrize(("strategy", "batching"), [("ddp", "by_length"), ("fsdp", "random")])
def test_two_go_on_from_their_checkpoint(
    base: Base, data: TrainingData, tmp_path: Path, strategy: str, batching: str
) -> None:
    """Against two processes that were never stopped: bit for bit. One of them is signalled in step 3, both stop."""
    config = config_of(**PLAIN, micro_batch_size=1, precision="float32", batching=batching)
    os.environ["STOP_RANK_1_AT"] = "3"
    try:
        said = torchrun(2, tmp_path, {"a": (strategy, config)})
    finally:
        del os.environ["STOP_RANK_1_AT"]
    assert said.count("stopped: asked to stop: after step 4 of 6") == 2, said[-3000:]
    assert [path.name for path in (tmp_path / "a" / "checkpoints").glob("checkpoint-*")] == ["checkpoint-4"]
    said = torchrun(2, tmp_path, {"a": (strategy, config), "b": (strategy, config)})
    assert "a goes on from 4" in said
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all((a[name] == b[name]).all() for name in b)
    assert history(tmp_path / "a") == history(tmp_path / "b")
    assert (tmp_path / "a" / "metrics.json").read_text() == (tmp_path / "b" / "metrics.json").read_text()


@given(
    pairs=st.integers(1, 40), per_batch=st.integers(1, 4), accumulation=st.integers(1, 4), processes=st.integers(1, 5),
    epochs=st.integers(1, 2),
)  # fmt: skip
def test_every_pair_counts_once(
    pairs: int, per_batch: int, accumulation: int, processes: int, epochs: int
) -> None:
    """Against counting: accelerate's own sampler deals out the batches; each step's mean is that of its pairs."""
    from accelerate.data_loader import BatchSamplerShard
    from torch.utils.data import BatchSampler

    plain = BatchSampler(range(pairs), per_batch, drop_last=False)
    dealt: list[list[list[int]]] = [
        list(BatchSamplerShard(plain, processes, rank)) if processes > 1 else list(plain) for rank in range(processes)
    ]  # fmt: skip
    size, seen = per_batch * accumulation * processes, list[int]()
    steps = -(-pairs // size)
    for step in range(steps * epochs):
        expected = list(range(pairs))[step % steps * size :][:size]
        weight = dict.fromkeys(range(pairs), 0.0)
        for rank in range(processes):
            mine = dealt[rank][step % steps * accumulation :][:accumulation]
            shares = micro_batch_shares(
                pairs=pairs, per_batch=per_batch, accumulation=accumulation, processes=processes, rank=rank, step=step,
                batches=len(mine),
            )  # fmt: skip
            for batch, share in zip(mine, shares, strict=True):
                for pair in batch[: share.pairs]:
                    weight[pair] += share.scale / len(mine) / processes
        assert {pair for pair, each in weight.items() if each} == set(expected)
        assert all(weight[pair] == pytest.approx(1 / len(expected)) for pair in expected)
        seen += expected
    assert sorted(seen) == sorted([*range(pairs)] * epochs)
