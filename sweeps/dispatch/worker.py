"""A job on Slurm: `python -m sweeps.dispatch.worker SUBMISSION PART FIRST`, with the array's index in the environment.

With a fourth word it is one of several workers that such a job starts, see `side_by_side`.

Asked to leave (SIGUSR2 before the time limit or at preemption, SIGTERM), it leaves a checkpoint, gives up its lease
and asks Slurm to start it again, unless it was cancelled. So it does when one of several processes that train a run
together is gone; should that have ended the first one too, its batch script does it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from _adadpo_start import check_and_protect
from analysis.results.values import State
from sweeps.store.signals import interrupt

if TYPE_CHECKING:  # what is heavy is imported when the signal handlers are there
    from sweeps.dispatch.submission import Submission
    from sweeps.store.job import Job, PlannedRun

RUN_AGAIN_SECONDS = 5.0


class StopRequest:
    """The first signal that asked this process to leave."""

    signal: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """A signal handler: work stops between two steps or batches."""
        from adadpo.stopping import request_stop

        self.signal = self.signal or number
        request_stop()


def main() -> None:
    """Do one job; exit code 0 when its runs are done or have failures of their own."""
    check_and_protect()
    asked = StopRequest()
    for number in (signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, asked)
    signal.signal(signal.SIGINT, interrupt)  # by a lease, when its run is cancelled or another's by now
    folder, part, first = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    one_of_several = len(sys.argv) > 4
    element = first + int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))

    from adadpo.errors import ProcessGroupError, StoppedError, SweepError
    from sweeps.dispatch.job_outcomes import note_ended
    from sweeps.dispatch.side_by_side import STOPPED, end_with_the_starter
    from sweeps.dispatch.submission import read_submission
    from sweeps.execution.gpu_packing import wait_briefly

    wait_briefly()
    submission = read_submission(folder)
    try:
        job = submission.work(part, element)
        if one_of_several:
            from sweeps.execution.stages import execute

            end_with_the_starter()
            execute(job, lambda run, stage, done, total: None, lambda run, state: None)
            return
        if is_first():
            note_ended(folder, part, element, None)
        before = progress_marks(job)
        side_by_side(submission, part, job, asked)
        work(job)
    except StoppedError:
        if one_of_several:
            sys.exit(STOPPED)
        sys.exit(leave(asked, lambda: gives_up(job, before)))
    except ProcessGroupError as error:
        print(f"adadpo: {error}", file=sys.stderr)
        sys.exit(_part(job))
    except SweepError as error:
        print(f"adadpo: {error}", file=sys.stderr)
        if is_first() and not one_of_several:
            note_ended(folder, part, element, str(error))
        sys.exit(1)
    except Exception as error:
        if is_first():
            if not one_of_several:
                note_ended(folder, part, element, f"{type(error).__name__}: {error}")
            raise
        # The first process was told, notes it and decides; a code of failure would have Slurm end it before it can.
        traceback.print_exc()


def is_first() -> bool:
    """Of the processes of the job's runs, this is the one that leads."""
    return os.environ.get("SLURM_PROCID", "0") == "0"


def side_by_side(submission: Submission, part: str, job: Job, asked: StopRequest) -> None:
    """Have several workers do the runs where the submission says so; what they leave is this process's."""
    from sweeps.dispatch.side_by_side import do_side_by_side

    together = submission.parts[part].runs_per_gpu
    if together > 1 and len(job.runs) > 1:
        command = [
            sys.executable,
            "-P",
            "-u",
            "-m",
            "sweeps.dispatch.worker",
            *sys.argv[1:],
            "one-of-several",
        ]
        do_side_by_side(job, command, together, lambda: asked.signal)


def work(job: Job) -> None:
    """Bring a job's runs to the end of its stages; see `runs_again` for which of them twice."""
    from sweeps.execution.stages import execute

    ended: dict[str, str] = {}

    def more() -> list[PlannedRun]:
        left = runs_again(job, ended)
        if left:
            time.sleep(RUN_AGAIN_SECONDS)
        return left

    execute(
        job,
        lambda run, stage, done, total: None,
        lambda run, state: ended.update({run.run_id: state}),
        more,
    )


def runs_again(job: Job, ended: Mapping[str, str]) -> list[PlannedRun]:
    """The runs for which nobody else will come.

    Args:
        job: that went through all of them.
        ended: run id -> how it ended, as `execute` says it.
    """
    from sweeps.store.control_files import ControlFiles
    from sweeps.store.layout import Store
    from sweeps.store.lease import is_mine_from_before

    store, found = Store(Path(job.store)), []
    control = ControlFiles(store.sweep(job.sweep))
    for run in job.runs:
        folder, state = store.run(run.run_id), ended.get(run.run_id)
        if state == "busy":
            # Slurm takes a silent node for dead and starts the job anew, while its process there may go on: wait until
            # that process is done, or certainly gone.
            again = is_mine_from_before(folder.lease.read() or {})
        else:
            # Retried since this job passed it: to whoever retried it, it was queued.
            was_over = state in (State.FAILED, State.DIVERGED, State.CANCELLED)
            again = was_over and folder.outcome(job.evaluation.eval_id) == State.WAITING
            again = again and not control.cancelled(run.run_id)
        if again:
            found.append(run)
    return found


def progress_marks(job: Job) -> set[str]:
    """What a job's runs have on the disk that the next attempt goes on from."""
    from sweeps.store.layout import Store

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
    from sweeps.store.layout import Store, write_json

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


def leave(asked: StopRequest, stuck: Callable[[], bool]) -> int:
    """Have Slurm start this job again where that helps and it was not cancelled; returns the exit code.

    Args:
        asked: how this process was asked to leave.
        stuck: asked at the time limit: whether another start would come no further; it says so by itself.
    """
    if not is_first():
        return 0  # of a run's processes the first one asks, and must not be ended for this one's sake before
    number = asked.signal or signal.SIGUSR2  # None: another process of the run was signalled
    job = os.environ.get("SLURM_JOB_ID", "")
    if _no_scontrol():
        return 128 + number
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
        return _requeue(job)
    return 128 + number


def _part(job: Job) -> int:
    """Have Slurm start a job again whose processes cannot go on together, if it has runs left; returns the exit code.

    How often is limited: by the attempts that are noted for a run, and before a run was begun by the job's starts.
    """
    from sweeps.failures.causes import retries_of
    from sweeps.store.control_files import ControlFiles
    from sweeps.store.layout import Store

    store = Store(Path(job.store))
    control, eval_id = ControlFiles(store.sweep(job.sweep)), job.evaluation.eval_id
    left = [
        run
        for run in job.runs
        if store.run(run.run_id).outcome(eval_id) == State.WAITING and not control.cancelled(run.run_id)
    ]
    if not is_first() or not left:
        return 0
    starts = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
    if control.stopped() or starts >= retries_of("node", job.retries):
        return 1
    print(f"adadpo: {len(left)} runs of this job are left; starting again later")
    return _requeue(os.environ.get("SLURM_JOB_ID", ""))


def _requeue(job: str) -> int:
    if _no_scontrol():
        return 1
    return subprocess.run(["scontrol", "requeue", job], check=False).returncode


def _no_scontrol() -> bool:
    """A container without Slurm's commands: the work that is left waits for the next launch."""
    if shutil.which("scontrol") is not None:
        return False
    print("adadpo: asked to leave; there is no scontrol in this container to start again: launch again")
    return True


if __name__ == "__main__":
    main()
