"""How much disk the new runs of a sweep take, from the shapes of the model's weights: nothing is loaded for it."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from adadpo.config import Lora, TrainSettings
from adadpo.data.pairs import load_pairs
from adadpo.files import cache_folder
from adadpo.training.resume_points import KEPT
from sweeps.state.sweep import Sweep
from sweeps.state.timing import declared_at_a_time
from sweeps.store.job import PlannedRun

# Safetensors files as they are on the disk: whole or not, and what shapes they hold. Nothing is loaded.

MOST_HEADER = 100 * 2**20  # the format's own limit


def safetensors_shapes(path: Path) -> dict[str, list[int]]:
    """Tensor -> shape, from a file's header (https://github.com/huggingface/safetensors#format).

    Raises:
        ValueError: the file is cut, or is none.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(MOST_HEADER, size - 8):
            raise ValueError(f"{path.name} is cut or no safetensors file ({size} bytes)")
        header = json.loads(stream.read(length))
    if not isinstance(header, Mapping):
        raise ValueError(f"{path.name}: its header is no object")
    tensors = {name: each for name, each in header.items() if name != "__metadata__"}
    try:
        end = max((each["data_offsets"][1] for each in tensors.values()), default=0)
        shapes = {name: [int(side) for side in each["shape"]] for name, each in tensors.items()}
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError(f"{path.name}: its header is damaged ({error!r})") from error
    if size != 8 + length + end:
        raise ValueError(f"{path.name} has {size} bytes, its header says {8 + length + end}")
    return shapes


Shapes = Mapping[str, Sequence[int]]

NUMBER = 4  # bytes: trained weights and their optimizer's states are float32
# Numbers that an optimizer keeps for each trained one; adafactor keeps sums over rows and columns instead.
STATES = {"adamw_torch": 2, "adamw_torch_fused": 2, "rmsprop": 1, "sgd": 0}
# Around the numbers, as measured on checkpoints of transformers 5: bytes of a tensor's entry in a file of safetensors
# and in one of torch, and of a checkpoint's other files (random state, arguments, scheduler, configuration).
SAFETENSORS_ENTRY, TORCH_ENTRY, OTHER_FILES = 130, 300, 31_000
ADAPTER_FILES = 6_900  # peft's card and configuration
TOKENIZER = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "chat_template*")
# transformers deletes the oldest checkpoint once the new one is written.
AT_PEAK = KEPT + 1
NOT_LINEAR = (
    "embed",
    "wte",
    "wpe",
    "lm_head",
)  # what of a module's name says that peft's all-linear passes it over


def disk_use(sweep: Sweep, waiting: Sequence[PlannedRun]) -> dict[str, Any] | None:
    """What the runs that are to be trained leave and need on the way; None where none is.

    Args:
        sweep: whose.
        waiting: its runs that a launch would work on.

    Returns:
        runs; runs_at_once; weights_bytes: of all of them in the end; checkpoint_bytes: of the largest single one;
        checkpoints_bytes: at their peak; snapshots_bytes; peak_bytes: all together; free_bytes: of the store's disk;
        fits. The bytes are None where they cannot be known, with a reason.
    """
    store, eval_id = sweep.store, sweep.eval_id
    runs = [run for run in waiting if not store.run(run.run_id).has("train", eval_id)]
    if not runs:
        return None
    at_once = min(declared_at_a_time(sweep), len(runs))
    found: dict[str, Any] = {"runs": len(runs), "runs_at_once": at_once, "free_bytes": _free(store.root)}
    names = ("weights", "checkpoint", "checkpoints", "snapshots", "peak")
    shapes, reason = _shapes_and_tokenizer(sweep.job.model, runs[0].config.model)
    if reason is None and sweep.spec.strategy == "zero3":
        reason = "DeepSpeed decides what a checkpoint of zero3 holds"
    if reason is not None:
        return found | dict.fromkeys([f"{name}_bytes" for name in names]) | {"fits": None, "reason": reason}
    tensors, tokenizer = shapes
    alike = {_kind(run): run.config.train for run in runs}
    by_kind = {kind: run_bytes(train, tensors, tokenizer) for kind, train in alike.items()}
    sizes = [by_kind[_kind(run)] for run in runs]
    weights = sum(size[0] for size in sizes)
    largest = sorted((size[1] for size in sizes), reverse=True)
    checkpoints = AT_PEAK * sum(largest[:at_once])
    snapshots = _snapshots(sweep, runs, [size[0] for size in sizes])
    peak = weights + checkpoints + (snapshots or 0)
    return found | {
        "weights_bytes": weights,
        "checkpoint_bytes": largest[0],
        "checkpoints_bytes": checkpoints,
        "snapshots_bytes": snapshots,
        "peak_bytes": peak,
        "fits": peak <= found["free_bytes"],
        "reason": None,
    }


def _kind(run: PlannedRun) -> tuple[Lora | None, str]:
    """What decides a run's sizes; of a thousand runs there are one or two."""
    return run.config.train.lora, run.config.train.optimizer


def run_bytes(train: TrainSettings, shapes: Shapes, tokenizer: int) -> tuple[int, int]:
    """Bytes of a run's trained weights, and of one of its checkpoints.

    Args:
        train: its settings.
        shapes: of the model's tensors, by name.
        tokenizer: bytes of the tokenizer's files, which each checkpoint holds too.
    """
    trained = shapes if train.lora is None else adapter_shapes(train.lora, shapes)
    sizes = [math.prod(shape) for shape in trained.values()]
    weights = NUMBER * sum(sizes) + SAFETENSORS_ENTRY * len(sizes)
    if train.optimizer == "adafactor":
        states, entries = sum(_factored(shape) for shape in trained.values()), 3
    else:
        count = STATES[train.optimizer]
        states, entries = count * sum(sizes), count + 1 if count else 0  # the count of steps is one too
    optimizer = NUMBER * states + TORCH_ENTRY * entries * len(sizes)
    weights += 0 if train.lora is None else ADAPTER_FILES
    return weights, weights + optimizer + tokenizer + OTHER_FILES


def adapter_shapes(lora: Lora, shapes: Shapes) -> dict[str, list[int]]:
    """The two matrices of each adapter, as peft puts them beside linear layers."""
    found: dict[str, list[int]] = {}
    for name, shape in shapes.items():
        module = name.removesuffix(".weight")
        if module != name and len(shape) == 2 and _is_target(module, lora.target_modules):
            found[f"{module}.lora_A"] = [lora.r, shape[1]]
            found[f"{module}.lora_B"] = [shape[0], lora.r]
    return found


def _is_target(module: str, targets: str | Sequence[str]) -> bool:
    if targets == "all-linear":
        return not any(word in module.rpartition(".")[2] for word in NOT_LINEAR)
    if isinstance(targets, str):
        return re.fullmatch(targets, module) is not None
    return any(module == target or module.endswith(f".{target}") for target in targets)


def _factored(shape: Sequence[int]) -> int:
    """Numbers that adafactor keeps of a tensor."""
    if len(shape) < 2:
        return math.prod(shape)
    return math.prod(shape[:-1]) + math.prod(shape[:-2]) * shape[-1]


def _snapshots(sweep: Sweep, runs: Sequence[PlannedRun], weights: Sequence[int]) -> int | None:
    """Bytes of the policies that are kept on the way; None: how many is not known before the data are here."""
    total = 0
    for run, size in zip(runs, weights, strict=True):
        train = run.config.train
        if train.snapshot_steps is None:
            continue
        steps = train.max_steps
        if steps is None and sweep.job.train.kind == "file":
            pairs = len(load_pairs(sweep.job.train.open(), sweep.job.bad_rows).pairs)
            steps = math.ceil(math.ceil(pairs / train.batch_size) * train.epochs)
        if steps is None:
            return None
        total += (steps - 1) // train.snapshot_steps * size
    return total


def _shapes_and_tokenizer(name: str, identity: str) -> tuple[tuple[Shapes, int], str | None]:
    """The shapes of a model and its tokenizer's bytes; or why they are not known."""
    none: tuple[Shapes, int] = ({}, 0)
    folder = _folder(name, identity)
    if folder is None:
        return none, f"{name} is not on this machine yet"
    index = folder / "model.safetensors.index.json"
    files = sorted(folder.glob("*.safetensors"))
    try:
        if index.exists():
            files = [
                folder / name for name in sorted({*json.loads(index.read_text())["weight_map"].values()})
            ]
        shapes = {name: shape for file in files for name, shape in safetensors_shapes(file).items()}
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError, KeyError, AttributeError) as error:
        return none, f"{name} cannot be read: {error}"
    if config.get("tie_word_embeddings") and len(shapes) > 1:
        shapes.pop("lm_head.weight", None)  # the same numbers as the embedding's, saved once
    if not shapes:
        return none, f"{name} is not on this machine yet"
    tokenizer = sum(file.stat().st_size for file in {f for name in TOKENIZER for f in folder.glob(name)})
    return (shapes, tokenizer), None


def _folder(name: str, identity: str) -> Path | None:
    """Where a model's files are on this machine; by its identity, since a folder would be hashed anew for it."""
    kind, _, content = identity.partition(":")
    if kind == "folder":
        return Path(name).expanduser()
    if kind != "hub":
        folder = cache_folder() / "models" / identity
        return folder if folder.is_dir() else None
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    repository, _, revision = content.rpartition("@")
    config = try_to_load_from_cache(repository, "config.json", revision=revision)
    return Path(config).parent if isinstance(config, str) else None


def _free(root: Path) -> int:
    """Bytes that are free where the store is, or will be."""
    place = next(folder for folder in (root, *root.parents) if folder.exists())
    return shutil.disk_usage(place).free


def disk_lines(disk: dict[str, Any] | None) -> list[str]:
    """`disk_use` for people."""
    if disk is None:
        return []
    free = f"{decimal(disk['free_bytes'])} free on the store's disk"
    if disk["reason"] is not None:
        return [f"  disk: not known, {disk['reason']}; {free}"]
    runs, at_once = disk["runs"], disk["runs_at_once"]
    snapshots = disk["snapshots_bytes"]
    parts = [f"weights of {runs} new runs {decimal(disk['weights_bytes'])}"]
    if snapshots != 0:
        parts.append("snapshots " + ("not counted" if snapshots is None else decimal(snapshots)))
    each = f"{AT_PEAK} x {decimal(disk['checkpoint_bytes'])} x {at_once} at once"
    parts.append(f"checkpoints at most {decimal(disk['checkpoints_bytes'])} ({each})")
    lines = [f"  disk: {', '.join(parts)}; {free}"]
    if not disk["fits"]:
        lines.append(
            f"  does not fit: {decimal(disk['peak_bytes'])} at the peak; see adadpo gc, or run fewer at once, or "
            "train.lora, or another --store"
        )
    return lines
