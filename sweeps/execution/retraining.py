"""Weights that `adadpo gc` freed, trained anew: they come back to a run whose other results stay as they are."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from typing import Any

from sweeps.store.layout import WEIGHTS, RunFolder, read_json, write_json
from sweeps.store.manifests import note_evaluations, weights_digest


def take_over(folder: RunFolder, metrics: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    """Put the weights that were trained again in the place of the freed ones.

    Bit for bit the same, as they are on a CPU, nothing else changes. Else they are another training's: its numbers
    take the place of the earlier ones too, and `adadpo fsck` tells of evaluations that were not made from it.

    Args:
        folder: nobody else works in it; `folder.training` is whole.
        metrics: of the new training.
        provenance: of the new training.
    """
    again = folder.training
    if weights_digest(again) != read_json(folder.freed)["digest"]:
        logging.getLogger("sweeps").warning(
            "after retraining, the weights are not bit for bit those that were freed: adadpo fsck names what was made "
            "from those"
        )
        write_json(folder.path / "provenance.json", provenance)
        os.replace(again / folder.history.name, folder.history)  # noqa: PTH105 -- within one folder
        note_evaluations(folder, dict(metrics), {})
        write_json(folder.metrics, metrics)
    # The weights last: until they are there, a kill leaves a run whose weights are freed.
    for name in ("snapshots", *WEIGHTS):
        if (again / name).is_dir() and not (folder.train / name).exists():
            (again / name).rename(folder.train / name)
    folder.freed.unlink()
    shutil.rmtree(again, ignore_errors=True)


def retraining_lines(folders: Mapping[str, RunFolder]) -> list[str]:
    """What a plan and a launch say of runs whose freed weights are needed; `folders`: those that wait, by run id."""
    runs = [run_id for run_id, folder in folders.items() if folder.weights_freed]
    if not runs:
        return []
    some = ", ".join(run_id[:8] for run_id in runs[:5]) + (", ..." if len(runs) > 5 else "")
    return [
        f"{len(runs)} runs are retrained, since this evaluation needs weights that adadpo gc freed: {some}"
    ]
