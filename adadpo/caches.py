"""Tensors that a whole sweep shares, computed once: reference log-probabilities and the token ids of a data set.

A file's name is a digest of everything that its content depends on; a checksum is verified at every read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from adadpo.data.pairs import BadRow, Pair
from adadpo.data.tokens import TokenPairs, tokenize_pairs
from adadpo.files import cache_folder, replacing
from adadpo.stopping import raise_if_stopped, stop_requested

LOG = logging.getLogger(__name__)
Memory = dict[Path, dict[str, Tensor]]  # the files that a process has read


def cache_file(kind: str, key: Mapping[str, Any]) -> Path:
    """The file for tensors of a kind that depend on `key` (JSON values)."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    return cache_folder() / kind / f"{digest}.safetensors"


def computed_once(file: Path, what: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The file's tensors; if it does not exist, one process computes them and the others wait.

    Args:
        file: from `cache_file`.
        what: the content's name in the log.
        compute: returns the tensors.

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
            LOG.warning("%s: %s is damaged; computing again", what, file)
        LOG.info("%s: computing", what)
        start = time.monotonic()
        found = compute()
        write_tensors(found, file)
        LOG.info("%s: computed in %.1f s", what, time.monotonic() - start)
        return found


@contextmanager
def _claimed(file: Path, what: str) -> Iterator[None]:
    """A lock on computing a file. The system releases it when its process ends, even by a kill."""
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
    """Write a cache file; readers see whole files only.

    Raises:
        FailureError: the disk is full or the folder cannot be written.
    """
    with replacing(file) as temporary:
        save_file(tensors, temporary, metadata={"check": content_digest(tensors)})


def content_digest(tensors: Mapping[str, Tensor]) -> str:
    """Sha256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous().cpu()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


TOKENS_VERSION = 1  # raise it when `tokenize_pairs` gives other ids
COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")


def cached_token_pairs(
    pairs: Sequence[Pair], tokenizer: Any, max_length: int, *, model_identity: str
) -> TokenPairs:
    """`tokenize_pairs`, from the cache when the same were made before.

    Args:
        pairs: the usable pairs.
        tokenizer: of the model to be trained.
        max_length: as for `tokenize_pairs`.
        model_identity: of the model whose tokenizer this is.

    Raises:
        DataError: as `tokenize_pairs`.
    """
    key = {
        "version": TOKENS_VERSION,
        "pairs": _content(pairs),
        "model": model_identity,
        "tokenizer": _tokenizer(tokenizer),
        "max_length": max_length,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
    }
    file, what = cache_file("tokens", key), f"token ids of {len(pairs)} pairs"
    return _unpack(computed_once(file, what, lambda: _pack(tokenize_pairs(pairs, tokenizer, max_length))))


def _content(pairs: Sequence[Pair]) -> str:
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(json.dumps([pair.prompt, pair.chosen, pair.rejected]).encode())
    return digest.hexdigest()


def _tokenizer(tokenizer: Any) -> str:
    """Sha256 over what it does with text; a model's name may stay the same when a branch on the hub goes on."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    rules = json.dumps(tokenizer.get_vocab(), sort_keys=True) if fast is None else fast.to_str()
    parts = [rules, tokenizer.chat_template, tokenizer.bos_token, tokenizer.eos_token]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _pack(pairs: TokenPairs) -> dict[str, Tensor]:
    """Each column as one row of ids and the ends of its sequences; what was dropped as JSON."""
    dropped = json.dumps([[row.number, row.reason] for row in pairs.dropped])
    packed = {
        "dropped": torch.tensor(list(dropped.encode()), dtype=torch.uint8),
        "truncated": torch.tensor(pairs.truncated),
    }
    for name in COLUMNS:
        column: list[list[int]] = getattr(pairs, name)
        packed[name] = torch.tensor(list(chain.from_iterable(column)), dtype=torch.int32)
        packed[f"{name}_ends"] = torch.tensor([len(ids) for ids in column]).cumsum(0)
    return packed


def _unpack(packed: dict[str, Tensor]) -> TokenPairs:
    def column(name: str) -> list[list[int]]:
        ids, ends = packed[name].tolist(), [0, *packed[f"{name}_ends"].tolist()]
        return [ids[start:end] for start, end in pairwise(ends)]

    prompt, chosen, rejected = map(column, COLUMNS)
    dropped = [BadRow(*row) for row in json.loads(bytes(packed["dropped"].tolist()))]
    return TokenPairs(prompt, chosen, rejected, dropped, int(packed["truncated"]))
