"""The last job of a sweep on Slurm, `python -m sweeps.operations.finish_job SUBMISSION`: it writes the report.

It waits for every job of its submission. Asked to leave, it asks Slurm to start it again, as a worker does.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from _adadpo_start import check_and_protect
from sweeps.dispatch.worker import StopRequest, leave
from sweeps.store.signals import interrupt


def main() -> None:
    """Write the report, or have lost runs and a search go on; exit code 0 when that is done."""
    check_and_protect()
    asked = StopRequest()
    for number in (signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, asked)
    signal.signal(signal.SIGINT, interrupt)

    # What is heavy is imported when the signal handlers are there.
    from rich.console import Console

    from adadpo.errors import StoppedError, SweepError
    from sweeps.dispatch.submission import read_submission
    from sweeps.operations.launch import finish_sweep
    from sweeps.state.opening import open_sweep
    from sweeps.store.layout import Store

    job = read_submission(Path(sys.argv[1])).job
    try:
        finish_sweep(open_sweep(job.sweep, Store(Path(job.store))), Console(width=120))
    except StoppedError:
        sys.exit(leave(asked, lambda: False))
    except SweepError as error:
        print(f"adadpo: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
