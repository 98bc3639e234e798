"""Responses in batches of like length, and the file that lets a killed generation go on after its last batch."""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adadpo.config import Decoding

Progress = Callable[[int, int], None]  # done, total


@dataclass(frozen=True)
class Response:
    """One generated response."""

    text: str
    token_ids: list[int]  # the end token included when the model produced one
    finished: bool  # False: cut at max_new_tokens


def cut_response(row: Sequence[int], ends: Sequence[int], tokenizer: Any) -> Response:
    """A response from the tokens behind a prompt: what follows the first end token is padding.

    Args:
        row: generated token ids.
        ends: ids of the tokens that end a response.
        tokenizer: of the model; special tokens do not appear in the text.

    Returns:
        The response, its text without outer white space.
    """
    end = next((place for place, token in enumerate(row) if token in ends), None)
    token_ids = list(row) if end is None else list(row[: end + 1])
    return Response(tokenizer.decode(token_ids, skip_special_tokens=True).strip(), token_ids, end is not None)


def derived_seed(seed: int, place: int) -> int:
    """A seed of its own, 32 bits, for the batch or prompt at a place."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{place}".encode()).digest()[:4])


def in_batches(
    ids: Sequence[list[int]],
    decoding: Decoding,
    answer: Callable[[int, list[int]], list[Response]],
    made_by: Sequence[Any],
    *,
    on_progress: Progress,
    partial: Path | None,
) -> list[Response]:
    """Ask for responses batch by batch, the longest prompts first: a shortage of memory shows at once.

    Args:
        ids: token ids of the prompts.
        decoding: its batch_size prompts make a batch.
        answer: gives the responses of a batch from the batch's number and its prompts' places in `ids`.
        made_by: whatever else a response depends on apart from the model's weights; JSON values.
        on_progress: called after each batch with prompts done and prompts in all.
        partial: JSONL file of finished batches. A batch that it holds for the same prompts, decoding and `made_by`
            is taken from there; any other line is passed over. Each batch is on the disk before the next begins.
            It says nothing of the weights: one file belongs to one model, and is its caller's to delete.

    Returns:
        Responses in the order of `ids`.

    Raises:
        OSError: the file cannot be read or written.
    """
    order = sorted(range(len(ids)), key=lambda place: -len(ids[place]))
    kept = {} if partial is None else _read(partial)
    found: dict[int, Response] = {}
    for number, start in enumerate(range(0, len(order), decoding.batch_size)):
        places = order[start : start + decoding.batch_size]
        depends = [number, places, [ids[i] for i in places], decoding.model_dump(mode="json"), list(made_by)]
        responses = _valid(kept.get(number, []), depends)
        if responses is None:
            responses = answer(number, places)
            if partial is not None:
                _append(partial, number, depends, responses)
        found.update(zip(places, responses, strict=True))
        on_progress(len(found), len(ids))
    return [found[place] for place in range(len(ids))]


def _read(file: Path) -> dict[int, list[dict[str, Any]]]:
    """The lines of a file by batch, unchecked: several where the settings changed in between."""
    lines: dict[int, list[dict[str, Any]]] = defaultdict(list)
    if file.exists():
        for text in file.read_bytes().split(b"\n"):
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):  # torn by a kill, or not ours at all
                continue
            if isinstance(line, dict) and isinstance(line.get("batch"), int):
                lines[line["batch"]].append(line)
    return lines


def _valid(lines: Sequence[dict[str, Any]], depends: list[Any]) -> list[Response] | None:
    """The responses of the first line whose check is right: then they are exactly what was written."""
    for line in lines:
        if line.get("check") == _check(depends, line.get("responses")):
            return [Response(**response) for response in line["responses"]]
    return None


def _append(file: Path, number: int, depends: list[Any], responses: Sequence[Response]) -> None:
    records = [asdict(response) for response in responses]
    line = json.dumps({"batch": number, "check": _check(depends, records), "responses": records})
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+b") as stream:
        if stream.seek(0, os.SEEK_END):
            stream.seek(-1, os.SEEK_END)
            if stream.read() != b"\n":  # torn: this line must not become the rest of that one
                stream.write(b"\n")
        stream.write(line.encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def _check(depends: list[Any], records: Any) -> str:
    """Sha256 over what a batch depends on and what it gave."""
    return hashlib.sha256(json.dumps([depends, records], sort_keys=True).encode()).hexdigest()
