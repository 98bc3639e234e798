"""Token ids of a data set, made once for all runs, processes and sweeps that need them alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any

import tokenizers
import torch
import transformers
from torch import Tensor

from adadpo.data import BadRow, Pair
from adadpo.tensor_cache import cache_file, computed_once
from adadpo.tokens import TokenPairs, tokenize_pairs

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
