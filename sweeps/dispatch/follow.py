"""Following a sweep's jobs on Slurm from outside: what is shown here nobody waits for."""

from __future__ import annotations

import time
from collections import Counter

from rich.console import Console

from sweeps.dispatch.local import follow_files
from sweeps.dispatch.submission import queue_of, states_in_queue
from sweeps.errors import FailureError
from sweeps.progress import SweepProgress
from sweeps.sweep import Sweep

POLL_SECONDS = 2.0


def follow_slurm(sweep: Sweep, console: Console) -> None:
    """Show progress until no job of the sweep is left; Ctrl-C leaves the jobs alone."""
    runs = sweep.select("waiting", "running", "unknown")
    ended: set[str] = set()
    try:
        with SweepProgress(console, len(sweep.job.runs), len(sweep.job.runs) - len(runs)) as progress:
            while True:
                try:
                    queue = queue_of(sweep)
                except FailureError:
                    queue = None  # a controller that is restarted: the files go on telling
                follow_files(sweep, runs, ended, progress)
                if queue is not None:
                    if not queue:
                        break
                    waiting = Counter(states_in_queue(queue).values())["queued"]
                    progress.note(f"{waiting} queued" if waiting else "")
                time.sleep(POLL_SECONDS)
            follow_files(sweep, runs, ended, progress)
    except KeyboardInterrupt:
        name = sweep.spec.name
        console.print(
            f"detached; the jobs go on. adadpo status {name} shows them, adadpo cancel {name} ends them"
        )
        return
    console.print(f"report: {sweep.folder / 'report.html'}", markup=False, highlight=False)
