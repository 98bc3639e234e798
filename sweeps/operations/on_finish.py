"""`launch.on_finish`: a command of the user's, run once when a sweep has ended or stalled.

What it is told is in environment variables, never in the command's text: messages come from runs, and a shell would
take them for commands. Whatever becomes of the command, the sweep's outcome stays what it was.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from filelock import FileLock, Timeout
from rich.console import Console

from adadpo.errors import FailureError, SweepError
from sweeps.config.launch import Slurm
from sweeps.state.opening import open_sweep
from sweeps.state.sweep import Sweep
from sweeps.store.ids import digest
from sweeps.store.layout import read_json, write_json

Outcome = Literal["done", "failed", "stopped", "stalled"]
SECONDS = 120.0  # for the command; mail and chat take a moment, and a launch does not wait for ever
KEPT_OUTPUT = 4000  # bytes of its end
LONGEST_MESSAGE = 2000
FILE = "ended.json"
TELLING = "telling.lock"  # held by whoever runs the command


@dataclass(frozen=True)
class Ending:
    """How a sweep ended.

    Attributes:
        outcome: done: every run that was to run has a result, or diverged; failed: some have none; stopped: too many
            failed alike; stalled: runs are left that nobody works on.
        counts: runs by state.
        message: in a sentence.
        mark: the same for everybody who sees this ending, another one after anything has happened.
    """

    outcome: Outcome
    counts: Counter[str]
    message: str
    mark: str


@contextmanager
def ending_told(sweep: Sweep, console: Console) -> Iterator[None]:
    """At the end of a block that runs a sweep, also when it fails: the command, where the sweep has ended."""
    try:
        yield
    except SweepError as error:
        tell_ending(sweep, console, str(error))
        raise
    tell_ending(sweep, console)


def tell_ending(sweep: Sweep, console: Console, error: str | None = None) -> None:
    """Run `launch.on_finish` if the sweep has ended or stalled and nobody has run it for this ending.

    Args:
        sweep: as it was opened; its files are read again.
        console: for a line about a command that failed.
        error: with what the launch ended.
    """
    command = sweep.spec.launch.on_finish
    if command is None:
        return
    try:
        now = open_sweep(sweep.spec.name, sweep.store)  # a search has asked for settings since
        ending = ending_of(now, error)
        if ending is None or not _is_first(now, ending):
            return
        with FileLock(now.folder / TELLING):
            told = _run(command, _environment(now, ending), _folder(now))
            write_json(now.folder / FILE, _record(ending) | {"on_finish": told})
    except (SweepError, OSError, ValueError) as problem:
        console.print(f"on_finish: {problem}", markup=False, highlight=False)
        return
    if (said := on_finish_problem(now)) is not None:
        console.print(f"on_finish: {said}", markup=False, highlight=False)


def on_finish_problem(sweep: Sweep) -> str | None:
    """What went wrong with the command at the last ending; None: nothing, or it is not known."""
    path = sweep.folder / FILE
    if not path.exists():
        return None
    try:
        record = read_json(path)
        told = record.get("on_finish") or {}
        if record.get("on_finish") is None and not _is_telling(sweep):
            return f"interrupted: the process that ran it was killed, and it is not run twice ({path})"
    except FailureError:  # it is no result: the next ending writes it anew
        return f"what became of it is not known: {path} is damaged"
    if told.get("problem") is None:
        return None
    last = _plain((told["output"].strip().splitlines() or [""])[-1])
    return f"{told['problem']}{f': {last}' if last else ''} ({path})"


def _is_telling(sweep: Sweep) -> bool:
    """Somebody runs the command now; also where nobody can know."""
    path = sweep.folder / TELLING
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except (Timeout, OSError):
        return True


def ending_of(sweep: Sweep, error: str | None = None) -> Ending | None:
    """How the sweep has ended; None while something of it is still going."""
    states = sweep.states()
    counts: Counter[str] = Counter(states.values())
    if counts["running"] or _is_queued(sweep):
        return None
    stopped = sweep.control.stopped()
    outcome: Outcome = "done"
    if stopped is not None and (counts["waiting"] or counts["failed"]):
        outcome = "stopped"
    elif counts["waiting"] or counts["unknown"]:
        outcome = "stalled"
    elif counts["failed"]:
        outcome = "failed"
    seen: dict[str, Any] = {}
    for run in sweep.job.runs:
        folder, state = sweep.store.run(run.run_id), states[run.run_id]
        last = folder.failure if state in ("failed", "diverged") else folder.last_file("score", sweep.eval_id)
        seen[run.run_id] = [state, last.stat().st_mtime_ns if last.exists() else None]
    # What did not come to its end may stall at the same place again: that is another ending.
    launched = sweep.control.launched().get("time") if outcome in ("stalled", "stopped") else None
    mark = digest([outcome, sweep.eval_id, seen, launched])
    return Ending(
        outcome, counts, _message(sweep, outcome, counts, error or (stopped or {}).get("message")), mark
    )


def _is_queued(sweep: Sweep) -> bool:
    """Slurm has jobs of the sweep other than the one that writes the report."""
    if not isinstance(sweep.spec.launch, Slurm):
        return False
    from sweeps.dispatch.submission import queue_of

    with suppress(FailureError):  # compute nodes need not reach the controller: the files tell enough
        queue = queue_of(sweep, shared=False)
        return any(queued.stages and queued.job.state != "COMPLETING" for queued in queue)
    return False


def _message(sweep: Sweep, outcome: Outcome, counts: Counter[str], reason: str | None) -> str:
    by_state = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    said = f"{sweep.spec.name} {outcome}: {by_state} of {len(sweep.job.runs)} runs"
    results = sweep.folder / "results.json"
    if outcome == "done" and results.exists():
        blocks = read_json(results).get("blocks", [])
        reason = next((str(each["sentence"]) for each in blocks if each["kind"] == "verdict"), None)
    said += f". {reason}" if reason else ""
    return _plain(said)[:LONGEST_MESSAGE]


def _plain(text: str) -> str:
    """Without what cannot be in a variable, would steer a terminal, or ends a header of a mail."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", text)


def _is_first(sweep: Sweep, ending: Ending) -> bool:
    """Nobody has told this ending; from now on somebody has."""
    with FileLock(sweep.folder / "ended.lock"):
        path = sweep.folder / FILE
        with suppress(FailureError):
            if path.exists() and read_json(path).get("mark") == ending.mark:
                return False
        write_json(path, _record(ending) | {"on_finish": None})
        return True


def _record(ending: Ending) -> dict[str, Any]:
    counts = {state: count for state, count in ending.counts.items() if count}
    return {
        "time": time.time(),
        "outcome": ending.outcome,
        "counts": counts,
        "message": ending.message,
        "mark": ending.mark,
    }


def _environment(sweep: Sweep, ending: Ending) -> dict[str, str]:
    report, counts = sweep.folder / "report.html", ending.counts
    return {
        "ADADPO_SWEEP": sweep.spec.name,
        "ADADPO_STORE": str(sweep.store.root),
        "ADADPO_OUTCOME": ending.outcome,
        "ADADPO_RUNS": str(len(sweep.job.runs)),
        "ADADPO_DONE": str(counts["done"]),
        "ADADPO_FAILED": str(counts["failed"]),
        "ADADPO_DIVERGED": str(counts["diverged"]),
        "ADADPO_WAITING": str(counts["waiting"] + counts["unknown"]),
        "ADADPO_REPORT": str(report) if report.exists() else "",
        "ADADPO_MESSAGE": ending.message,
    }


def _folder(sweep: Sweep) -> Path:
    """Where the sweep file is, so that scripts beside it are found; on another machine it may not be there."""
    folder = Path(sweep.origin.folder)
    return folder if folder.is_dir() else sweep.folder


def _run(command: str, environment: dict[str, str], folder: Path) -> dict[str, Any]:
    """Run the command; what it said at the end, and what went wrong (None: nothing)."""
    began = time.monotonic()
    process = subprocess.Popen(
        ["sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"} | environment,  # its own imports
        cwd=folder,
        start_new_session=True,  # so that what it started ends with it
    )
    said = bytearray()
    assert process.stdout is not None
    # What it started in the background may keep the pipe open: only the command itself is waited for.
    reader = threading.Thread(target=_read, args=(process.stdout, said), daemon=True)
    reader.start()
    problem = None
    try:
        code = process.wait(SECONDS)
        if code != 0:
            problem = f"exit code {code}" if code > 0 else f"ended by signal {-code}"
    except subprocess.TimeoutExpired:
        problem = f"did not end within {SECONDS:g} s"
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    reader.join(1)
    return {"problem": problem, "seconds": time.monotonic() - began, "output": said.decode(errors="replace")}


def _read(stream: IO[bytes], said: bytearray) -> None:
    with stream:
        while content := os.read(stream.fileno(), 2**16):
            said += content
            del said[:-KEPT_OUTPUT]
