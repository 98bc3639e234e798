"""The settings that a search has asked for: a file of the sweep's folder, from which its runs are planned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from analysis.values import Value
from sweeps.errors import FailureError
from sweeps.store import read_json, write_json

FILE = "search.json"


class Asked(BaseModel):
    """One setting, in the order of asking."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    setting: dict[str, Value]
    seeds: int | None = None  # of the file's seeds, so many may run so far; None: all
    pruned: str | None = None  # why its further seeds do not run

    def not_yet(self, seeds: list[int]) -> list[int]:
        """Seeds that are not planned before the pruner has looked; those of a pruned setting are, as pruned."""
        return [] if self.seeds is None or self.pruned is not None else seeds[self.seeds :]


def read_asked(folder: Path) -> list[Asked]:
    """What was asked so far; empty before the first launch.

    Raises:
        FailureError: the file is damaged; it is not derivable, so it is not made again.
    """
    path = folder / FILE
    if not path.exists():
        return []
    try:
        return [Asked.model_validate(entry) for entry in read_json(path)["asked"]]
    except (ValidationError, KeyError, TypeError) as error:
        raise FailureError(f"{path} is damaged: {str(error).splitlines()[0]}") from error


def write_asked(folder: Path, asked: Sequence[Asked]) -> None:
    """All of it at once: a batch of settings is asked for whole or not at all."""
    write_json(folder / FILE, {"asked": [entry.model_dump() for entry in asked]})
