"""What a run's win rates come to under each draw of prompts: kept beside its scores, by the stage that computed them.

The draws depend on the number of prompts alone, so runs that were judged on the same prompts have the same ones, and
their differences need no fit again.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adadpo.errors import FailureError
from sweeps.evaluation.judge_and_score import BOOTSTRAP_SEED, REPLICATES
from sweeps.store.ids import digest
from sweeps.store.manifests import REPLICATES_FILE

if TYPE_CHECKING:
    from analysis.alpaca_eval.logit import Array
    from analysis.prompts.bootstrap import PromptBootstrap, WinRate

VERSION = 1  # of how replicates are computed; raise it when that changes
KEPT: tuple[WinRate, ...] = ("win_rate", "length_controlled_win_rate")


def replicates_file(
    annotations: Sequence[Mapping[str, Any]], found: PromptBootstrap
) -> tuple[bytes, dict[str, Any]]:
    """One run's replicates as they are kept.

    Args:
        annotations: that were drawn from.
        found: of `score_annotations`.

    Returns:
        What to write to `REPLICATES_FILE`; and for the scores: what the draws are of, and the hash of the file.
    """
    import numpy as np

    # The value of all prompts first.
    rows = [np.concatenate([found.estimates[name], found.drawn(name, [0])[0]]) for name in KEPT]
    stream = io.BytesIO()
    np.save(stream, np.array(rows), allow_pickle=False)
    content = stream.getvalue()
    return content, {
        "draws": digest(
            {
                "version": VERSION,
                "bootstrap": [BOOTSTRAP_SEED, REPLICATES],
                "lc_method": found.lc_method,
                "calibration": found.calibration,
                "prompts": [row["instruction"] for row in annotations],
            }
        ),
        "prompts": found.n,
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def same_draws(scores: Mapping[str, Mapping[str, Any]]) -> bool:
    """Every run has replicates, all of the same draws."""
    of = {one["replicates"]["draws"] if "replicates" in one else None for one in scores.values()}
    return len(of) == 1 and None not in of


def read_replicates(
    homes: Sequence[Path], said: Sequence[Mapping[str, Any]]
) -> tuple[dict[WinRate, Array], dict[WinRate, KeptRows]] | None:
    """Values of all prompts [runs], and the replicates, which stay in their files; None: not there, or not as written.

    Args:
        homes: folder of each run's evaluation.
        said: of each, by `replicates_file`.
    """
    import numpy as np

    estimates = {name: np.empty(len(homes)) for name in KEPT}
    files = []
    for place, home in enumerate(homes):
        path = home / REPLICATES_FILE
        try:
            with path.open("rb") as stream:
                written = os.fstat(stream.fileno()).st_mtime_ns
                content = stream.read()
            if hashlib.sha256(content).hexdigest() != said[place]["sha256"]:
                return None
            found: Array = np.load(io.BytesIO(content), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        if found.shape != (len(KEPT), 1 + REPLICATES) or found.dtype != np.float64:
            return None
        files.append((str(path), written, len(content) - found.nbytes))
        for name, row in zip(KEPT, found, strict=True):
            estimates[name][place] = row[0]
    return estimates, {name: KeptRows(files, row) for row, name in enumerate(KEPT)}


@dataclass(frozen=True, slots=True, eq=False)
class KeptRows:
    """One metric's replicates, read from the runs' files whenever they are asked for: 16 kB a run are not held."""

    files: Sequence[tuple[str, int, int]]  # path, time of writing, bytes before the numbers
    row: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Runs and replicates."""
        return len(self.files), REPLICATES

    def __getitem__(self, at: list[int]) -> Array:
        """These runs' replicates [len(at), replicates].

        Raises:
            FailureError: a file is not as it was when it was verified.
        """
        import numpy as np

        found, size = np.empty((len(at), REPLICATES)), 8 * REPLICATES
        for place, run in enumerate(at):
            path, written, start = self.files[run]
            try:
                file = os.open(path, os.O_RDONLY)
                try:
                    as_verified = os.fstat(file).st_mtime_ns == written
                    content = os.pread(file, size, start + self.row * (8 + size) + 8)
                finally:
                    os.close(file)
            except OSError as error:
                raise FailureError(f"{path} went away while it was read: {error}") from None
            if not as_verified or len(content) != size:
                raise FailureError(f"{path} was rewritten while it was read: try again")
            found[place] = np.frombuffer(content)
        return found
