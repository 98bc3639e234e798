"""What `adadpo plan` says of disk space, against the bytes that real runs have on the disk."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from adadpo.config import Lora, TrainSettings
from adadpo.errors import DivergedError
from adadpo.files import cache_folder
from adadpo.training import checkpoints
from adadpo.training.resume_points import KEPT
from adadpo.training.train import History
from sweeps.operations.disk import adapter_shapes, run_bytes
from tests.sweeps.sweep_examples import TWO, adadpo, write_sweep

SETTINGS = {
    "adamw": "",
    "lora": ", lora: {r: 8, alpha: 16}",
    "adafactor": ", optimizer: adafactor",
    "snapshots": ", optimizer: rmsprop, snapshot_steps: 1, lora: {r: 64, target_modules: [q_proj, v_proj]}",
}


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def planned(file: Path, store: Path) -> Any:
    return adadpo("plan", file, "--store", store, "--json").json["disk"]


@pytest.mark.parametrize("name", SETTINGS)
def test_the_plan_is_what_a_run_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Each optimizer, adapters in bfloat16, snapshots: within 4%; never more than KEPT checkpoints, none in the end."""
    train = f"max_steps: 4, checkpoint_steps: 1, warmup: 0{SETTINGS[name]}"
    text = TWO.replace("warmup: 0", train)
    if name == "lora":
        text = text.replace("precision: float32", "precision: bfloat16")
    file, store = write_sweep(tmp_path / "two.yaml", text), tmp_path / "store"
    told = planned(file, store)
    assert (told["runs"], told["runs_at_once"], told["fits"], told["reason"]) == (2, 1, True, None)
    seen: list[int] = []

    def seal(folder: Path, *arguments: Any) -> None:
        original(folder, *arguments)
        one = list(folder.parent.glob("checkpoint-*"))
        assert len(one) <= KEPT
        seen.append(size(folder))

    original = checkpoints.seal
    monkeypatch.setattr(checkpoints, "seal", seal)
    answer = adadpo("launch", file, "--store", store)
    assert len(seen) == 8, answer.err
    assert told["checkpoint_bytes"] == pytest.approx(max(seen), rel=0.04)
    assert told["checkpoints_bytes"] == (KEPT + 1) * told["checkpoint_bytes"]
    left = [size(path) for name in ("model", "adapter") for path in store.glob(f"*/train/{name}")]
    assert told["weights_bytes"] == pytest.approx(sum(left), rel=0.04)
    snapshots = sum(size(path) for path in store.glob("*/train/snapshots"))
    assert told["snapshots_bytes"] == pytest.approx(snapshots, rel=0.04)
    assert (snapshots > 0) == (name == "snapshots")
    assert not list(store.glob("*/train/checkpoints"))
    assert planned(file, store) is None  # nothing is left to train


@pytest.mark.parametrize("error", [DivergedError(4, "loss", float("nan")), RuntimeError("a bug")])
def test_a_run_that_failed_keeps_no_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """At its fourth step, with two checkpoints behind it: another try would begin anew, the history stays."""
    on_log = History.on_log

    def failing(self: History, args: Any, state: Any, *rest: Any, **kwargs: Any) -> None:
        on_log(self, args, state, *rest, **kwargs)
        if state.global_step == 4:
            assert list(self.folder.glob("checkpoints/checkpoint-*"))
            raise error

    monkeypatch.setattr(History, "on_log", failing)
    text = TWO.replace("warmup: 0", "max_steps: 6, checkpoint_steps: 1, warmup: 0")
    file, store = write_sweep(tmp_path / "two.yaml", text), tmp_path / "store"
    adadpo("launch", file, "--store", store)
    state = "diverged" if isinstance(error, DivergedError) else "failed"
    assert adadpo("status", file, "--store", store, "--json").json["counts"] == {state: 2}
    assert not list(store.glob("*/train/checkpoints"))
    assert len(list(store.glob("*/train/history.jsonl"))) == 2


def test_what_does_not_fit_is_said(two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a disk with less room than the peak: the sizes, what is free, and what helps; workers count."""
    four = two.read_text().replace("executor: inline", "executor: local, workers: 2")
    told = planned(write_sweep(two, four), tmp_path)
    assert told["runs_at_once"] == 2
    assert told["checkpoints_bytes"] == 2 * (KEPT + 1) * told["checkpoint_bytes"]
    assert told["peak_bytes"] == told["weights_bytes"] + told["checkpoints_bytes"]
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, told["peak_bytes"] - 1))
    out = adadpo("plan", two, "--store", tmp_path / "not" / "there").out
    assert "does not fit: " in out
    assert "see adadpo gc" in out
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, told["peak_bytes"]))
    assert "does not fit" not in adadpo("plan", two, "--store", tmp_path).out
    file = write_sweep(tmp_path / "inline.yaml", TWO)
    room = planned(file, tmp_path)["peak_bytes"] - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, room))
    launched = adadpo("launch", file, "--store", tmp_path / "store")
    assert (launched.code, launched.out.count("does not fit: ")) == (0, 1)  # a warning, and an upper bound


def test_what_is_not_known_is_said(two: Path, tmp_path: Path) -> None:
    """A model of the hub that nobody has fetched; a folder with cut weights; no figure is made up."""
    text = two.read_text()
    write_sweep(two, text.replace("tiny-random-llama", "org/never-fetched@v1"))
    told = planned(two, tmp_path)
    assert (told["peak_bytes"], told["fits"], told["runs"]) == (None, None, 2)
    out = adadpo("plan", two, "--store", tmp_path).out
    assert "disk: not known, org/never-fetched@v1 is not on this machine yet" in out
    shutil.copytree(cache_folder() / "models" / "tiny-random-llama-v1", tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    write_sweep(two, text.replace("tiny-random-llama", str(tmp_path / "cut")))
    assert "cannot be read: model.safetensors has" in planned(two, tmp_path)["reason"]


def test_a_shared_output_layer_counts_once(two: Path, tmp_path: Path) -> None:
    """A folder in shards, with an output layer that is the embedding: as transformers saves it."""
    from safetensors.torch import load_file, save_file

    source, folder = cache_folder() / "models" / "tiny-random-llama-v1", tmp_path / "sharded"
    shutil.copytree(source, folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    config = (folder / "config.json").read_text()
    tied = '"tie_word_embeddings": true' in config
    names = sorted(tensors)
    half = len(names) // 2
    tensors["lm_head.weight"] = tensors.get("lm_head.weight", tensors["model.embed_tokens.weight"].clone())
    parts = {"a.safetensors": names[:half], "b.safetensors": sorted({*names[half:], "lm_head.weight"})}
    for file, mine in parts.items():
        save_file({name: tensors[name] for name in mine}, folder / file)
    index = {"weight_map": {name: file for file, mine in parts.items() for name in mine}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    if not tied:
        (folder / "config.json").write_text(json.dumps(json.loads(config) | {"tie_word_embeddings": True}))
    one = planned(two, tmp_path)["weights_bytes"]
    write_sweep(two, two.read_text().replace("tiny-random-llama", str(folder)))
    other = planned(two, tmp_path)["weights_bytes"]
    embedding = tensors["lm_head.weight"].numel() * 4
    assert one - other == (0 if tied else pytest.approx(2 * embedding, abs=2000))


def test_the_published_setting_by_hand() -> None:
    """An 8B Llama (hidden 4096, 32 layers, MLP 14336, 8 of 32 key heads, 128256 tokens): 32 GB, 96 GB a checkpoint."""
    layer = {
        "self_attn.q_proj": [4096, 4096], "self_attn.k_proj": [1024, 4096], "self_attn.v_proj": [1024, 4096],
        "self_attn.o_proj": [4096, 4096], "mlp.gate_proj": [14336, 4096], "mlp.up_proj": [14336, 4096],
        "mlp.down_proj": [4096, 14336], "input_layernorm": [4096], "post_attention_layernorm": [4096],
    }  # fmt: skip
    shapes = {f"model.layers.{n}.{name}.weight": shape for n in range(32) for name, shape in layer.items()}
    shapes |= {"model.embed_tokens.weight": [128256, 4096], "lm_head.weight": [128256, 4096]}
    shapes["model.norm.weight"] = [4096]
    weights, checkpoint = run_bytes(TrainSettings(), shapes, 0)
    assert weights == pytest.approx(8_030_261_248 * 4, rel=1e-4)
    assert checkpoint == pytest.approx(8_030_261_248 * 12, rel=1e-4)
    # By hand: 32 x 16 x (2 x 8192 + 2 x 5120 + 3 x 18432), which is what peft prints for it.
    for modules, expected in {
        "all-linear": 41_943_040,
        ".*down_proj": 32 * 16 * 18432,
        ("k_proj", "v_proj"): 32 * 16 * 2 * 5120,
    }.items():
        adapters = adapter_shapes(Lora(r=16, target_modules=modules), shapes)
        assert sum(a * b for a, b in adapters.values()) == expected
