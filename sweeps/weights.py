"""Safetensors files as they are on the disk: whole or not, and what shapes they hold. Nothing is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

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
