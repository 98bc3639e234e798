"""A job on Slurm: `python -m sweeps.dispatch.worker SUBMISSION PART FIRST`, with the array's index in the environment.

Asked to leave (SIGUSR2 before the time limit or at preemption, SIGTERM), it leaves a checkpoint, gives up its lease
and asks Slurm to start it again, unless it was cancelled.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what is heavy is imported when the signal handlers are there
    from sweeps.resolve import Job, PlannedRun

RUN_AGAIN_SECONDS = 5.0


class Asked:
    """The first signal that asked this process to leave."""

    signal: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """A signal handler: work stops between two steps or batches."""
        from adadpo.stopping import request_stop

        self.signal = self.signal or number
        request_stop()


def main() -> None:
    """Do one job; exit code 0 when its runs are done or have failures of their own."""
    asked = Asked()
    for number in (signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, asked)
    folder, part, first = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    element = first + int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))

    from rich.console import Console

    from adadpo.stopping import StoppedError
    from sweeps.dispatch.submission import FINISH, read_submission
    from sweeps.errors import SweepError

    # As in the command line: threads that spin while they wait cost a machine that does something else too.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    submission = read_submission(folder)
    try:
        if part == FINISH:
            from sweeps.launch import finish_sweep
            from sweeps.store import Store
            from sweeps.sweep import open_sweep

            store = Store(Path(submission.job.store))
            finish_sweep(open_sweep(submission.job.sweep, store), Console(width=120))
        else:
            job = submission.work(part, element)
            before = progress_marks(job)
            work(job)
    except StoppedError:
        sys.exit(_leave(asked, lambda: part != FINISH and gives_up(job, before)))
    except SweepError as error:
        print(f"adadpo: {error}", file=sys.stderr)
        sys.exit(1)


def work(job: Job) -> None:
    """Bring a job's runs to the end of its stages; of those that this job itself had before it was requeued, too."""
    from sweeps.lease import is_mine_from_before
    from sweeps.stages import execute
    from sweeps.store import Store

    store, left = Store(Path(job.store)), job.runs
    while left:
        ended: dict[str, str] = {}
        execute(
            job.model_copy(update={"runs": left}),
            lambda run, stage, done, total: None,
            partial(_note, ended),
        )
        # Slurm takes a silent node for dead and starts the job anew, while its process there may go on. Nobody else
        # will come for these runs: wait until that process is done, or certainly gone.
        left = [
            run
            for run in left
            if ended.get(run.run_id) == "busy"
            and is_mine_from_before(store.run(run.run_id).lease.read() or {})
        ]
        if left:
            time.sleep(RUN_AGAIN_SECONDS)


def _note(ended: dict[str, str], run: PlannedRun, state: str) -> None:
    ended[run.run_id] = state


def progress_marks(job: Job) -> set[str]:
    """What a job's runs have on the disk that the next attempt goes on from."""
    from sweeps.store import Store

    store, found = Store(Path(job.store)), set()
    for run in job.runs:
        folder = store.run(run.run_id)
        found |= {f"{run.run_id} {stage}" for stage in folder.stages_done(job.evaluation.eval_id)}
        found |= {str(path) for path in folder.training.glob("checkpoints/*")}
        found |= {f"{path} {path.stat().st_size}" for path in folder.path.glob("eval/*/partial.jsonl")}
    return found


def gives_up(job: Job, before: set[str]) -> bool:
    """Whether another start would come no further than this one; then that is the failure of the run it stands at.

    Args:
        job: at whose end the time limit was near.
        before: `progress_marks` of its beginning.
    """
    from sweeps.store import Store, write_json

    if progress_marks(job) - before:
        return False
    eval_id = job.evaluation.eval_id
    for run in job.runs:
        folder = Store(Path(job.store)).run(run.run_id)
        stage = next((stage for stage in job.stages if not folder.has(stage, eval_id)), None)
        if stage in ("train", "generate"):  # a judge's answers are kept elsewhere
            said = "the time limit came before a single step or batch was done: raise launch.timeout_min"
            write_json(
                folder.failure, {"kind": "timeout", "stage": stage, "message": said, "time": time.time()}
            )
            return True
    return False


def _leave(asked: Asked, stuck: Callable[[], bool]) -> int:
    """Have Slurm start this job again where that helps and it was not cancelled; returns the exit code.

    Args:
        asked: how this process was asked to leave.
        stuck: asked at the time limit: whether another start would come no further; it says so by itself.
    """
    if os.environ.get("SLURM_PROCID", "0") != "0":
        return 0  # of a run's processes the first one asks, and must not be ended for this one's sake before
    number = asked.signal or signal.SIGUSR2  # None: another process of the run was signalled
    job = os.environ.get("SLURM_JOB_ID", "")
    show = subprocess.run(
        ["scontrol", "show", "job", "--oneliner", job], capture_output=True, text=True, check=False
    )
    state = re.search(r"\bJobState=(\S+)", show.stdout)
    # SIGUSR2 is Slurm's warning before the time limit or preemption. SIGTERM may be scancel, whose job is no longer
    # RUNNING, or preemption where no warning is configured.
    preempted = re.search(r"\bPreemptTime=\d", show.stdout) and state and state[1] == "RUNNING"
    warned = number == signal.SIGUSR2
    if preempted or (warned and not stuck()):
        print(f"adadpo: asked to leave ({signal.Signals(number).name}); starting again later")
        return subprocess.run(["scontrol", "requeue", job], check=False).returncode
    return 128 + number


if __name__ == "__main__":
    main()
