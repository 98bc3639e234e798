"""Why runs fail, and what follows from each cause: one table. Told by exceptions, and by what Slurm says of a job.

A failure is evidence (message, traceback, signal) and a cause; the cause decides whether the run is tried again by
itself, whether the launch stops, and what a person is advised to do.
"""

from __future__ import annotations

import errno
import hashlib
import re
import subprocess
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adadpo.errors import DivergedError, JudgeError, PeerGoneError

Cause = Literal["out of memory", "node", "preempted", "timeout", "disk", "judge", "diverged", "bug"]
CAUSE_ALIASES = {"oom": "out of memory", "memory": "out of memory"}


@dataclass(frozen=True)
class RetryPolicy:
    """What follows from a cause.

    Attributes:
        retries: automatic tries after the first one; counted in the run's folder, from the last `adadpo retry` on.
        stop_after: so many runs of a launch that fail alike stop it; None: the others go on.
        meaning: in half a sentence.
        advice: what to do, in half a sentence.
    """

    retries: int
    stop_after: int | None
    meaning: str
    advice: str


POLICIES: dict[Cause, RetryPolicy] = {
    "out of memory": RetryPolicy(
        0,
        3,
        "the GPU's or the machine's memory was too small",
        "halve train.micro_batch_size (the effective batch stays), then launch",
    ),
    "node": RetryPolicy(
        10, None, "the process or its machine went away", "nothing: the next launch tries it again"
    ),
    "preempted": RetryPolicy(
        20, None, "other jobs took its place", "nothing: the next launch goes on from its checkpoint"
    ),
    "timeout": RetryPolicy(
        5, None, "the job's time was over", "raise launch.timeout_min, or set train.checkpoint_steps"
    ),
    "disk": RetryPolicy(0, 1, "the disk is full", "make room (adadpo gc), then launch"),
    "judge": RetryPolicy(
        0, 1, "the judge does not answer", "see the message, then launch: answers so far are kept"
    ),
    "diverged": RetryPolicy(
        0, None, "a loss or gradient was no finite number", "an outcome: leave it, or lower the rate"
    ),
    "bug": RetryPolicy(0, 3, "an error in the code or its input", "read the log, fix the cause, then retry"),
}

SLURM_STATES: dict[str, Cause] = {
    "NODE_FAIL": "node",
    "BOOT_FAIL": "node",
    "PREEMPTED": "preempted",
    "TIMEOUT": "timeout",
    "DEADLINE": "timeout",
    "OUT_OF_MEMORY": "out of memory",
}
SLURM_GOES_ON = ("RUNNING", "PENDING", "CONFIGURING", "COMPLETING", "SUSPENDED")
# What drivers and file systems say when the machine is to blame; text, since torch wraps everything in RuntimeError.
BROKEN_NODE = (
    "uncorrectable ecc", "fallen off the bus", "no cuda-capable device", "cuda driver initialization failed",
    "device(s) is/are busy or unavailable", "nccl error: unhandled system error", "stale file handle",
)  # fmt: skip
NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")
NO_ROOM = ("no space left", "disk quota exceeded")
TAIL_LINES, TAIL_CHARACTERS = 25, 4000


def classify(error: BaseException) -> Cause:
    """The cause of an exception; `bug` when nothing else is known of it."""
    text = f"{type(error).__name__}: {error}".lower()
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, DivergedError):
        return "diverged"
    if isinstance(error, JudgeError):
        return "judge"
    if isinstance(error, PeerGoneError):
        return "node"
    if number in (errno.ENOSPC, errno.EDQUOT) or any(said in text for said in NO_ROOM):
        return "disk"
    if number == errno.ENOMEM or isinstance(error, MemoryError) or any(said in text for said in NO_MEMORY):
        return "out of memory"
    if number in (errno.ESTALE, errno.EIO, errno.ENODEV) or any(said in text for said in BROKEN_NODE):
        return "node"
    return "bug"


def retries_of(cause: Cause, chosen: Mapping[str, int]) -> int:
    """Automatic tries after the first; `chosen`: `launch.retries` of the sweep."""
    by_cause = {CAUSE_ALIASES.get(name, name): count for name, count in chosen.items()}
    return by_cause.get(cause, POLICIES[cause].retries)


def signature(error: BaseException) -> str:
    """16 hex digits that are equal for the same error in another run, process or job.

    Exception, names of the functions it passed, and its message without what differs from run to run: numbers, paths,
    addresses and quoted text.
    """
    passed = [
        f"{Path(frame.filename).name}:{frame.name}" for frame in traceback.extract_tb(error.__traceback__)
    ]
    # Each function once: how deep a recursion went differs from run to run.
    text = "\n".join([type(error).__name__, *dict.fromkeys(passed), normalised(str(error))])
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


def normalised(message: str) -> str:
    """A message's first line without numbers, paths, addresses and quoted text."""
    line = (message.splitlines() or [""])[0]
    for pattern, instead in (
        (r"'[^']*'|\"[^\"]*\"", "'...'"),
        (r"(?<!\w)(/[\w.@+-]+)+/?", "/..."),
        (r"0x[0-9a-fA-F]+", "#"),
        (r"[-+]?(\d+(\.\d+)?([eE][-+]?\d+)?|\b(inf|nan)\b)", "#"),
    ):
        line = re.sub(pattern, instead, line)
    return line


def traceback_tail(error: BaseException) -> str:
    """The end of the traceback: where it happened and what was said."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "\n".join(lines[-TAIL_LINES:])[-TAIL_CHARACTERS:]


def cause_of_loss(owner: Mapping[str, Any]) -> tuple[Cause, str]:
    """Why an owner of a lease went away without a word, and the evidence.

    Args:
        owner: the content of its lease.
    """
    job, where = owner.get("slurm_job_id"), f"process {owner.get('pid')} on {owner.get('host')}"
    start = int(owner.get("slurm_restarts") or 0)
    if job is not None and (said := slurm_state(str(job), start)) is not None:
        of = f"job {job}" if start == 0 else f"job {job}, restart {start},"
        if said in SLURM_STATES:
            return SLURM_STATES[said], f"Slurm: {of} ended as {said}"
        if said == "REQUEUED":
            return (
                "node",
                f"Slurm: {of} was requeued, and {where} ended without a word: its node, or preemption",
            )
        if said in SLURM_GOES_ON:
            return "node", f"{where} ended without a word, while Slurm says that {of} is {said}: killed"
        return "node", f"Slurm: {of} ended as {said}, {where} without a word"
    return (
        "node",
        f"{where} ended without a word: killed, often by the system when memory is short, or its machine",
    )


def slurm_state(job: str, start: int = 0) -> str | None:
    """How one start of a job ended, in Slurm's word; None when nobody knows.

    By accounting, else by what the controller recalls, which is the job's last start: REQUEUED when it is a later one.

    Args:
        job: as SLURM_JOB_ID names it; that of an array's element may be the array's too, so that all answer to it.
        start: how often it was requeued before.
    """
    told = _answer(["sacct", "-X", "-D", "-n", "-P", "-j", job, "-o", "JobIDRaw,Start,State"])
    lines = [line.split("|") for line in told.splitlines() if line.startswith(f"{job}|")]
    states = [re.match(r"[A-Z_]*", line[2]) for line in sorted(lines, key=lambda line: line[1])]
    if len(states) > start and (found := states[start]) and found[0]:
        return found[0]
    for line in _answer(["scontrol", "-o", "show", "job", job]).splitlines():
        state, restarts = re.search(r"\bJobState=([A-Z_]+)", line), re.search(r"\bRestarts=(\d+)", line)
        if line.startswith(f"JobId={job} ") and state:
            return "REQUEUED" if restarts and int(restarts[1]) > start else state[1]
    return None


def array_ends(array: str) -> dict[int, tuple[str, str]]:
    """Element -> how it ended last, in Slurm's word (`FAILED`), and exit code and signal (`1:0`).

    By accounting, else by what the controller recalls (MinJobAge); elements of which nobody knows are left out.

    Args:
        array: job id of the array.
    """
    found: dict[int, tuple[str, str]] = {}
    for line in _answer(["scontrol", "-o", "show", "job", array]).splitlines():
        words = dict(word.partition("=")[::2] for word in line.split())
        end = (words.get("JobState", ""), words.get("ExitCode", ""))
        found.update(dict.fromkeys(_elements(words.get("ArrayTaskId", "")), end))
    for line in _answer(["sacct", "-X", "-n", "-P", "-j", array, "-o", "JobID,State,ExitCode"]).splitlines():
        label, state, code = line.split("|")
        end = (state.partition(" ")[0], code)  # CANCELLED by 1000
        found.update(dict.fromkeys(_elements(label.partition("_")[2].strip("[]")), end))
    return found


def _elements(said: str) -> list[int]:
    """`3`, or those that never were begun together: `0-2,7%4`."""
    found: list[int] = []
    for part in said.partition("%")[0].split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            found += range(int(first), int(last or first) + 1)
    return found


def _answer(command: list[str]) -> str:
    """What a command prints; nothing where it fails."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout if answer.returncode == 0 else ""
