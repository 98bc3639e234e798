"""Annotation files as a user names them: found, read whole, still unchecked."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.errors import UserError

ENDINGS = ("annotations.json", "annotations.json.gz")


@dataclass(frozen=True, slots=True)
class AnnotationFile:
    """A file's records as they are: what is wrong with them is for the integrity gate to say."""

    source: str
    sha256: str
    records: list[Any]


def find_files(paths: Sequence[Path]) -> list[Path]:
    """The files named, and for a folder every `*annotations.json` and `*annotations.json.gz` below it, each once.

    Raises:
        UserError: a path that is not there, or a folder without such a file.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            below = sorted(each for each in path.rglob("*") if each.is_file() and each.name.endswith(ENDINGS))
            if not below:
                raise UserError(f"{path}: no {' or '.join(ENDINGS)} below this folder")
            found.update(dict.fromkeys(below))
        elif path.exists():
            found[path] = None
        else:
            raise UserError(f"{path}: no such file or folder")
    return list(found)


def read_file(path: Path) -> AnnotationFile:
    """Read a `.json` or `.json.gz` file that holds a list.

    Raises:
        UserError: it cannot be read, is not JSON, or is no list.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        records = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
    except (ValueError, EOFError, zlib.error, OSError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from error
    if not isinstance(records, list):
        raise UserError(
            f"{path}: expected a list of annotations in AlpacaEval's format, got {type(records).__name__}"
        )
    return AnnotationFile(str(path), hashlib.sha256(content).hexdigest(), records)


def read_prompt_order(path: Path) -> list[str]:
    """Instructions of a JSON list of records, in order: AlpacaEval's prompts, or a complete annotation file.

    Raises:
        UserError: unreadable, a record without a text `instruction`, or one that occurs twice.
    """
    instructions = instructions_of(read_file(path).records)
    if instructions is None:
        raise UserError(f"{path}: every record needs a text 'instruction', each one once")
    return instructions


def instructions_of(records: Sequence[Any]) -> list[str] | None:
    """The records' instructions in order; None when one has none, or one occurs twice."""
    found = [record.get("instruction") if isinstance(record, dict) else None for record in records]
    texts = [text for text in found if isinstance(text, str)]
    return texts if len(set(texts)) == len(found) else None
