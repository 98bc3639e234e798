"""Answers of an API on disk, keyed by what was asked: nothing that was paid for is paid for again.

One small file per answer, complete or absent (temporary name, fsync, rename), so that a killed process leaves
nothing half-written and any number of processes share the folder. A file that does not hold what was written is
taken for absent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from adadpo.files import atomic_write


def canonical(value: Any) -> str:
    """One text for one value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def answer_key(request: Mapping[str, Any], repeat: int) -> str:
    """Sha256 of a request (model, messages, sampling parameters; no endpoint, no key) and its repeat number."""
    return hashlib.sha256(canonical({"request": request, "repeat": repeat}).encode()).hexdigest()


class AnswerStore:
    """A folder of answers; any number of threads and processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> dict[str, Any] | None:
        """The answer, or None when there is none that can be trusted."""
        try:
            stored = json.loads(self._file(key).read_text(encoding="utf-8"))
            answer = stored["answer"]
            return answer if stored["sha256"] == _sha256(answer) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, key: str, answer: dict[str, Any]) -> None:
        """Keep an answer for good."""
        content = {"answer": answer, "sha256": _sha256(answer)}
        atomic_write(self._file(key), json.dumps(content))

    @contextmanager
    def asking(self, key: str) -> Iterator[None]:
        """Held while an answer is asked for: who asks the same thing waits, then finds it in the store."""
        lock = self.folder / "asking" / f"{key}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, poll_interval=0.02):
            try:
                yield
            finally:
                # Whoever still waits on the unlinked file looks into the store before asking, as does any other.
                with suppress(OSError):
                    lock.unlink()

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


def _sha256(answer: Any) -> str:
    return hashlib.sha256(canonical(answer).encode()).hexdigest()
