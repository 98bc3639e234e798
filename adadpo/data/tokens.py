"""Preference pairs as token ids, the way TRL's DPOTrainer makes them, except that BOS is never doubled."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

from jinja2 import TemplateError

from adadpo.data.pairs import BadRow, Message, Pair, Text
from adadpo.errors import DataError


@dataclass(frozen=True)
class TokenPairs:
    """Token ids of pairs; the prompt's end and both responses, unpadded."""

    prompt_ids: list[list[int]]
    chosen_ids: list[list[int]]
    rejected_ids: list[list[int]]
    dropped: list[
        BadRow
    ]  # pairs whose prompt alone fills max_length; number: position among the usable pairs
    truncated: int  # pairs of which a response is cut at max_length

    def __len__(self) -> int:
        return len(self.prompt_ids)

    @cached_property
    def digest(self) -> str:
        """Sha256 over the ids: what a model's numbers for these pairs depend on."""
        whole = hashlib.sha256()
        for column in (self.prompt_ids, self.chosen_ids, self.rejected_ids):
            whole.update(array("q", map(len, column)))
            whole.update(array("q", chain.from_iterable(column)))
        return whole.hexdigest()

    def rows(self) -> list[dict[str, list[int]]]:
        """One dictionary per pair, as TRL's collator takes them."""
        columns = zip(self.prompt_ids, self.chosen_ids, self.rejected_ids, strict=True)
        return [{"prompt_ids": p, "chosen_ids": c, "rejected_ids": r} for p, c, r in columns]


def tokenize_pairs(pairs: Sequence[Pair], tokenizer: Any, max_length: int) -> TokenPairs:
    """Tokenise with the chat template (conversations) or plainly plus an end token (text).

    Args:
        pairs: the usable pairs.
        tokenizer: of the model to be trained.
        max_length: tokens of prompt + response; a longer response is cut at its end by the collator.

    Raises:
        DataError: no pair is left, or the tokenizer cannot render one, see `encode`.
    """
    prompts: list[list[int]] = []
    chosen: list[list[int]] = []
    rejected: list[list[int]] = []
    dropped: list[BadRow] = []
    truncated = 0
    for number, pair in enumerate(pairs, start=1):
        prompt = encode(tokenizer, pair.prompt, generation_prompt=True)
        whole_chosen = encode(tokenizer, _join(pair.prompt, pair.chosen, tokenizer))
        whole_rejected = encode(tokenizer, _join(pair.prompt, pair.rejected, tokenizer))
        # Tokens can merge across the boundary: the prompt ends where all three agree.
        end = min(_agreement(prompt, whole_chosen), _agreement(prompt, whole_rejected))
        if end >= max_length:
            dropped.append(BadRow(number, f"the prompt has {end} tokens, max_length is {max_length}"))
            continue
        truncated += max(len(whole_chosen), len(whole_rejected)) > max_length
        prompts.append(prompt[:end])
        chosen.append(whole_chosen[end:])
        rejected.append(whole_rejected[end:])
    if not prompts:
        raise DataError(
            f"no pair fits max_length {max_length}: every prompt alone is as long ({len(dropped)} pairs)"
        )
    return TokenPairs(prompts, chosen, rejected, dropped, truncated)


def encode(tokenizer: Any, text: Text, *, generation_prompt: bool = False) -> list[int]:
    """Ids of a text, or of a conversation through the chat template; never two BOS tokens at the start.

    A conversation has the BOS that its template writes, none is added. A text has the one that the tokenizer adds,
    where it adds one; a text that begins with BOS itself (rendered from a template before) keeps only that one.

    Args:
        tokenizer: of the model.
        text: text or messages.
        generation_prompt: end a conversation with the template's opening of an answer.

    Returns:
        Token ids.

    Raises:
        DataError: there is no chat template for a conversation, it refuses it, or two BOS tokens remain.
    """
    if isinstance(text, str):
        ids = list(tokenizer(text)["input_ids"])
        if _doubled(ids, tokenizer) and text.startswith(tokenizer.bos_token) and _adds_bos(tokenizer):
            ids = ids[1:]
    else:
        ids = _render(tokenizer, text, generation_prompt)
    if _doubled(ids, tokenizer):
        if isinstance(text, str):
            cause = f"the tokenizer adds it twice, or the text begins with two: {text[:40]!r}"
        else:
            begin = text[0]["content"][:40]
            cause = f"its chat template writes it twice, or the first message begins with it: {begin!r}"
        raise DataError(
            f"tokenizer {tokenizer.name_or_path}: two BOS tokens {tokenizer.bos_token} at the start: {cause}"
        )
    return ids


def _render(tokenizer: Any, messages: list[Message], generation_prompt: bool) -> list[int]:
    if tokenizer.chat_template is None:
        raise DataError("the data are conversations but the tokenizer has no chat template")
    try:
        encoded = tokenizer.apply_chat_template(
            messages, add_generation_prompt=generation_prompt, tokenize=True, return_dict=True
        )
    except TemplateError as error:  # many templates refuse a system message
        raise DataError(f"the tokenizer's chat template refuses a conversation: {error}") from error
    return list(encoded["input_ids"])


def _doubled(ids: Sequence[int], tokenizer: Any) -> bool:
    return tokenizer.bos_token_id is not None and ids[:2] == [tokenizer.bos_token_id] * 2


def _adds_bos(tokenizer: Any) -> bool:
    return list(tokenizer("")["input_ids"])[:1] == [tokenizer.bos_token_id]


def _join(prompt: Text, response: Text, tokenizer: Any) -> Text:
    if isinstance(prompt, str) and isinstance(response, str):
        return prompt + response + ("" if response.endswith(tokenizer.eos_token) else tokenizer.eos_token)
    assert not isinstance(prompt, str)  # make_pair's normal form: both or neither
    assert not isinstance(response, str)
    return prompt + response


def _agreement(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
