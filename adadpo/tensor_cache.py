"""Tensors that a whole sweep shares, computed once: files named by all they depend on, checked when they are read."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from adadpo.models import cache_folder


def cache_file(kind: str, key: Mapping[str, Any]) -> Path:
    """Where tensors of a kind are that depend on `key` (JSON values)."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    return cache_folder() / kind / f"{digest}.safetensors"


def lock(file: Path) -> FileLock:
    """Whoever computes the file holds it, so that workers that start together do not all compute the same."""
    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(file.with_suffix(".lock"))


def read_tensors(file: Path) -> dict[str, Tensor] | None:
    """The tensors; None where there is no file, or it does not hold exactly what was written."""
    try:
        with safe_open(file, framework="pt") as stored:
            found = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 -- not a mapping
            written = (stored.metadata() or {}).get("check")
    except (SafetensorError, OSError):
        return None
    return found if written == _check(found) else None


def write_tensors(tensors: dict[str, Tensor], file: Path) -> None:
    """Writes under a name of its own, then renames: readers see whole files."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, suffix=".part")
    os.close(handle)
    try:
        save_file(tensors, name, metadata={"check": _check(tensors)})
        Path(name).chmod(0o644)  # mkstemp gives 0o600; a shared cache is read by colleagues
        os.replace(name, file)  # noqa: PTH105
    finally:
        Path(name).unlink(missing_ok=True)


def _check(tensors: Mapping[str, Tensor]) -> str:
    """Sha256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous().cpu()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
