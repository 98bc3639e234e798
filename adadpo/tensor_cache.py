"""Tensors that a whole sweep shares, computed once: files named by all they depend on, checked when they are read."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from adadpo.models import cache_folder
from adadpo.stopping import raise_if_stopped, stop_requested

LOG = logging.getLogger(__name__)
Memory = dict[Path, dict[str, Tensor]]  # what a process knows of the files


def cache_file(kind: str, key: Mapping[str, Any]) -> Path:
    """Where tensors of a kind are that depend on `key` (JSON values)."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    return cache_folder() / kind / f"{digest}.safetensors"


def computed_once(file: Path, what: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The file's tensors; where there are none yet, the first process that asks computes them and the others wait.

    Args:
        file: from `cache_file`.
        what: is in it, for the log.
        compute: gives the tensors.

    Raises:
        StoppedError: asked to stop (see `adadpo.stopping`) while another process computes.
    """
    known = read_tensors(file)
    if known is not None:
        return known
    with _claimed(file, what):
        known = read_tensors(file)
        if known is not None:
            return known
        if file.exists():
            LOG.warning("%s: %s is damaged, they are computed again", what, file)
        LOG.info("%s: computing", what)
        start = time.monotonic()
        found = compute()
        write_tensors(found, file)
        LOG.info("%s: computed in %.1f s", what, time.monotonic() - start)
        return found


@contextmanager
def _claimed(file: Path, what: str) -> Iterator[None]:
    """The right to compute a file. The system frees it when its holder ends, however that was."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file.with_suffix(".lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        LOG.info("%s: waiting for another process that computes them", what)
        start = time.monotonic()
        try:
            lock.acquire(cancel_check=stop_requested)
        except Timeout:
            raise_if_stopped()
            raise
        LOG.info("%s: waited %.1f s", what, time.monotonic() - start)
    try:
        yield
    finally:
        lock.release()


def read_tensors(file: Path) -> dict[str, Tensor] | None:
    """The tensors; None where there is no file, or it does not hold exactly what was written."""
    try:
        with safe_open(file, framework="pt") as stored:
            found = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 -- not a mapping
            written = (stored.metadata() or {}).get("check")
    except (SafetensorError, OSError):
        return None
    return found if written == content_digest(found) else None


def write_tensors(tensors: dict[str, Tensor], file: Path) -> None:
    """Writes under a name of its own, then renames: readers see whole files."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, suffix=".part")
    os.close(handle)
    try:
        save_file(tensors, name, metadata={"check": content_digest(tensors)})
        Path(name).chmod(0o644)  # mkstemp gives 0o600; a shared cache is read by colleagues
        os.replace(name, file)  # noqa: PTH105
    finally:
        Path(name).unlink(missing_ok=True)


def content_digest(tensors: Mapping[str, Tensor]) -> str:
    """Sha256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous().cpu()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
