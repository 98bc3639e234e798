"""Preference pairs from a JSON/JSONL file or a hub data set, in one shape, with every unusable row accounted for.

Accepted are TRL's preference formats: explicit or implicit prompt, text or conversational. A string prompt beside
message lists (as in princeton-nlp/llama3-ultrafeedback) is accepted too: TRL would look at an arbitrary column.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adadpo.errors import DataError, RowError

Message = dict[str, str]
Text = str | list[Message]


@dataclass(frozen=True)
class DataSource:
    """Where pairs come from."""

    name: str  # as the user wrote it
    kind: Literal["file", "hub"]
    location: str  # path or hub id
    split: str = "train"
    revision: str = "main"
    limit: int | None = None  # the first so many usable rows

    @property
    def identity(self) -> str:
        """Changes exactly when the pairs change; free of paths."""
        tail = "" if self.limit is None else f"[:{self.limit}]"
        if self.kind == "hub":
            return f"hub:{self.location}@{self.revision}/{self.split}{tail}"
        return f"sha256:{hashlib.sha256(read_bytes(Path(self.location))).hexdigest()}{tail}"


@dataclass(frozen=True)
class Pair:
    """One preference pair: all three are text, or all three are lists of messages."""

    prompt: Text
    chosen: Text
    rejected: Text


@dataclass(frozen=True)
class BadRow:
    """A row that was left out, and why."""

    number: int  # counted from 1
    reason: str


@dataclass(frozen=True)
class Pairs:
    """The usable pairs of a source, and the rows that are not."""

    pairs: list[Pair]
    bad_rows: list[BadRow]


def load_pairs(source: DataSource, bad_rows: Literal["refuse", "skip"] = "refuse") -> Pairs:
    """Read a source.

    Raises:
        DataError: the source cannot be read, has no usable row, or has bad rows and `bad_rows` is "refuse".
    """
    rows = read_rows(Path(source.location)) if source.kind == "file" else hub_rows(source)
    pairs: list[Pair] = []
    bad: list[BadRow] = []
    for number, row in enumerate(rows, start=1):
        if source.limit is not None and len(pairs) == source.limit:
            break
        try:
            pairs.append(make_pair(row))
        except RowError as error:
            bad.append(BadRow(number, str(error)))
    if bad and bad_rows == "refuse":
        shown = "; ".join(f"row {b.number}: {b.reason}" for b in bad[:5])
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise DataError(
            f"{source.name}: {len(bad)} of {len(bad) + len(pairs)} rows cannot be used ({shown}{more}); "
            "correct them or set data.bad_rows: skip"
        )
    if not pairs:
        raise DataError(f"{source.name}: no usable preference pair in {len(bad)} rows")
    return Pairs(pairs, bad)


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        DataError: it is not there or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read data file {path}: {error.strerror}") from error


def read_rows(path: Path) -> list[Any]:
    """The rows of a JSON list or a JSONL file.

    Raises:
        DataError: unreadable, not UTF-8, or not JSON; the message names the line.
    """
    try:
        text = read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start})") from error
    if path.suffix == ".jsonl":
        rows = []
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError as error:
                    raise DataError(
                        f"{path}:{number}:{error.colno}: not JSON ({error.msg}); is the file whole?"
                    ) from error
        return rows
    if path.suffix != ".json":
        raise DataError(f"{path}: data files end in .json or .jsonl")
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}:{error.colno}: not JSON ({error.msg}); is the file whole?"
        ) from error
    if not isinstance(content, list):
        raise DataError(f"{path}: expected a list of rows, got {type(content).__name__}")
    return content


def hub_rows(source: DataSource) -> Iterable[Any]:
    """The rows of a hub data set's split.

    Raises:
        DataError: it cannot be fetched.
    """
    import datasets

    try:
        return datasets.load_dataset(source.location, split=source.split, revision=source.revision)
    except Exception as error:  # the hub client raises a dozen unrelated types
        raise DataError(
            f"cannot load data set {source.location!r} (split {source.split}, revision {source.revision}): "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
        ) from error


def make_pair(row: Any) -> Pair:
    """One row in its normal form.

    Raises:
        RowError: it is not a usable preference pair.
    """
    if not isinstance(row, Mapping):
        raise RowError(f"expected an object, got {type(row).__name__}")
    for column in ("chosen", "rejected"):
        if column not in row:
            raise RowError(f"column {column!r} is missing (has: {', '.join(sorted(map(str, row)))})")
    chosen, rejected = _text("chosen", row["chosen"]), _text("rejected", row["rejected"])
    if isinstance(chosen, str) is not isinstance(rejected, str):
        raise RowError("chosen and rejected must both be text or both be message lists")
    if chosen == rejected:
        raise RowError("chosen and rejected are equal")
    prompt = _text("prompt", row["prompt"]) if row.get("prompt") is not None else None

    if not isinstance(chosen, str) and not isinstance(rejected, str):
        if chosen[0]["role"] != "assistant":  # the conversation is inside both responses
            shared = _shared_length(chosen, rejected)
            if isinstance(prompt, list) and prompt != chosen[:shared]:
                raise RowError("prompt is not the conversation that chosen and rejected share")
            prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
        elif isinstance(prompt, str) and prompt:
            prompt = [{"role": "user", "content": prompt}]
    elif prompt is None:
        shared = _shared_length(chosen, rejected)
        # As TRL's extract_prompt: the space before the first difference belongs to the responses.
        if 0 < shared < min(len(chosen), len(rejected)) and chosen[shared - 1] == " ":
            shared -= 1
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    elif not isinstance(prompt, str):
        raise RowError("prompt is a message list but chosen and rejected are text")

    if not prompt or not _content(prompt).strip():
        raise RowError("the prompt is empty or missing")
    for name, response in (("chosen", chosen), ("rejected", rejected)):
        if not _content(response).strip():
            raise RowError(f"{name} is empty")
        if not isinstance(response, str) and [m["role"] for m in response] != ["assistant"]:
            raise RowError(f"{name} must be one assistant message after the shared conversation")
    return Pair(prompt, chosen, rejected)


def _text(column: str, value: Any) -> Text:
    """A string, or a non-empty list of plain messages."""
    if isinstance(value, str):
        return _encodable(column, value)
    if not isinstance(value, list) or not value:
        raise RowError(f"{column} must be text or a list of messages, got {type(value).__name__}")
    messages = []
    for message in value:
        if not isinstance(message, Mapping) or not all(
            isinstance(message.get(k), str) for k in ("role", "content")
        ):
            raise RowError(f"{column} has a message without a text 'role' and 'content'")
        messages.append({"role": message["role"], "content": _encodable(column, message["content"])})
    return messages


def _encodable(column: str, text: str) -> str:
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise RowError(f"{column} has half of a surrogate pair, which is not text (a cut emoji?)")
    return text


def _shared_length(a: Any, b: Any) -> int:
    """Length of the common prefix of two sequences."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _content(response: Text) -> str:
    return response if isinstance(response, str) else "".join(m["content"] for m in response)
