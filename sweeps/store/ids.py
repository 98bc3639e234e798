"""What a run or an evaluation is called: the hash of exactly what changes its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adadpo.config import RunConfig

# Raise it when the same configuration gives other results than before; a golden test pins the ids.
IDENTITY_VERSION = 2


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, NaN refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """First 16 hex digits of sha256 over the canonical JSON and the identity version."""
    return _short(_versioned(value))


def _versioned(value: Any) -> str:
    return canonical_json({"identity_version": IDENTITY_VERSION, "value": value})


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """Sha256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run_id(config: RunConfig) -> str:
    """The id of a training run."""
    return digest(config.identity())


def run_ids(config: RunConfig, seeds: Sequence[int]) -> list[str]:
    """`run_id` of a configuration under each of some seeds; written down once, for sweeps of thousands of runs."""
    # Within a string the quotes would be escaped: this is the key.
    before, _, after = _versioned(config.identity() | {"seed": 0}).partition('"seed":0')
    return [_short(f'{before}"seed":{seed}{after}') for seed in seeds]
