"""What Slurm says of this user's jobs: one `squeue`, whose answer is shared by all who ask within a few seconds.

squeue answers from the controller's memory: at once, and also where there is no accounting (sacct).
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from adadpo.errors import FailureError

FIELDS = "JobID:|,ArrayJobID:|,ArrayTaskID:|,State:|,RestartCnt:|,Reason:|,Command:|"
SHARED_SECONDS = 5.0  # less than a lease's silence that makes anybody ask


@dataclass(frozen=True)
class SlurmJob:
    """A job, or one element of an array, that is pending, running or about to end.

    Attributes:
        job_id: as SLURM_JOB_ID says it in the job; of a pending element that of its array.
        label: as users name it: `17` or `17_3`.
        index: of the element; None: no array.
        state: in Slurm's word.
        restarts: how often it was requeued.
        reason: why it is pending, in Slurm's word.
        script: the batch script that was submitted.
    """

    job_id: str
    label: str
    index: int | None
    state: str
    restarts: int
    reason: str
    script: Path


_last: tuple[float, list[SlurmJob]] | None = None


def slurm_jobs(*, shared: bool = True) -> list[SlurmJob]:
    """The jobs of this user, array elements one by one.

    Args:
        shared: an answer that is some seconds old will do.

    Raises:
        FailureError: Slurm does not answer, so that nothing is known.
    """
    global _last
    if shared and _last is not None and time.monotonic() - _last[0] < SHARED_SECONDS:
        return _last[1]
    command = ["squeue", "--noheader", "--array", f"--user={os.getuid()}", f"--Format={FIELDS}"]
    asked = time.monotonic()
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip()
        raise FailureError(
            f"squeue does not answer, so it is unknown which jobs are queued: {said}"
        ) from error
    found = [_job(line) for line in answer.stdout.splitlines() if line]
    _last = (asked, found)
    return found


def _job(line: str) -> SlurmJob:
    job_id, array, index, state, restarts, reason, script = line.split("|", 6)
    number = int(index) if index.isdigit() else None
    return SlurmJob(
        job_id=job_id,
        label=job_id if number is None else f"{array}_{number}",
        index=number,
        state=state,
        restarts=int(restarts),
        reason=reason,
        script=Path(script.rstrip("|")),
    )
