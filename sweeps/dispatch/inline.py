"""Runs in this process, one after another."""

from __future__ import annotations

from rich.console import Console

from sweeps.progress import SweepProgress
from sweeps.resolve import PlannedRun
from sweeps.stages import execute
from sweeps.sweep import Sweep


def launch_inline(sweep: Sweep, runs: list[PlannedRun], console: Console) -> None:
    """Bring the runs to their end.

    Raises:
        SweepError: something that concerns every run.
    """
    finished = len(sweep.job.runs) - len(runs)
    with SweepProgress(console, len(sweep.job.runs), finished) as progress:
        execute(sweep.job.model_copy(update={"runs": runs}), progress.update, progress.end)
