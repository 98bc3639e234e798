"""What a run's win rates come to under each draw of prompts: kept beside its scores, by the stage that computed them.

The draws depend on the number of prompts alone, so runs that were judged on the same prompts have the same ones, and
their differences need no fit again.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.evaluation import BOOTSTRAP_SEED, REPLICATES
from sweeps.identity import digest
from sweeps.manifests import REPLICATES_FILE

if TYPE_CHECKING:
    from analysis.logit import Array
    from analysis.prompt_bootstrap import PromptBootstrap, WinRate

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
    rows = [np.concatenate([found.estimates[name], found.replicates[name][0]]) for name in KEPT]
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


def read_replicates(home: Path, said: Mapping[str, Any]) -> Array | None:
    """A run's values [2 (`KEPT`), 1 + replicates], those of all prompts first; None: not there, or not as written.

    Args:
        home: folder of the run's evaluation.
        said: of `replicates_file`.
    """
    import numpy as np

    with suppress(OSError, ValueError, EOFError):
        content = (home / REPLICATES_FILE).read_bytes()
        if hashlib.sha256(content).hexdigest() == said["sha256"]:
            found: Array = np.load(io.BytesIO(content), allow_pickle=False)
            return found if found.shape == (len(KEPT), 1 + REPLICATES) else None
    return None
