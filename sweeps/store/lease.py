"""Who works on a run: a file created exclusively, refreshed while the work goes on, with the owner in it."""

from __future__ import annotations

import _thread
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from adadpo.errors import FailureError
from sweeps.store.slurm_queue import slurm_jobs

REFRESH_SECONDS = 5.0
# Refreshed this recently, the owner is alive whatever else is said; after it, Slurm is asked about the owner's job.
QUIET_SECONDS = 15.0
# A lease on another machine that nobody refreshed for so long is "unknown", never "dead": its node may be cut off.
SILENT_SECONDS = 120.0

Holder = Literal["none", "alive", "dead", "unknown"]


@dataclass(frozen=True)
class Lease:
    """The file; it exists while somebody works."""

    path: Path

    def read(self) -> dict[str, Any] | None:
        """The owner, or None when there is none (a lease is renamed into place, so it is never half-written)."""
        try:
            content = json.loads(self.path.read_text())
        except (OSError, ValueError, RecursionError):
            return None
        return content if isinstance(content, dict) else None

    def take(
        self, about: Mapping[str, Any] | None = None, leave: Callable[[], bool] = lambda: False
    ) -> Holding | None:
        """Become the owner; None when somebody else is, or may be.

        Args:
            about: what others may want to know of the owner, beside its process and machine.
            leave: asked now and then; when it says yes, the owner's main thread is interrupted.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One look-and-write at a time: two launchers that both see a dead owner must not both take over.
        with self.looking():
            if holder_state(self) in ("alive", "unknown"):
                return None
            return Holding(self, {**_me(), **(about or {})}, self.read(), leave)

    def looking(self, timeout: float = -1) -> FileLock:
        """To be held while what follows rests on who holds the lease: nobody takes it or gives it up meanwhile.

        Args:
            timeout: seconds to wait for others who look; below 0: as long as it takes.
        """
        return FileLock(self.path.with_suffix(".lock"), timeout=timeout)

    def release(self) -> None:
        """Give up somebody's lease, whoever holds it."""
        self.path.unlink(missing_ok=True)


class Holding:
    """A held lease, refreshed by a thread until it is released."""

    def __init__(
        self,
        lease: Lease,
        owner: dict[str, Any],
        previous: dict[str, Any] | None = None,
        leave: Callable[[], bool] = lambda: False,
    ) -> None:
        """`previous`: the owner that went away without releasing it."""
        self.lease, self.owner, self.previous = lease, owner, previous
        self._leave = leave
        self.left = False  # interrupted because `leave` said so
        self.taken_over = False  # interrupted because the lease is another's
        self.progress: dict[str, Any] = {}
        self._write()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True)
        self._thread.start()

    def report(self, stage: str, done: int, total: int) -> None:
        """Progress for others to read; written with the next refresh.

        Raises:
            KeyboardInterrupt: the owner is to leave.
        """
        self.progress = {"stage": stage, "done": done, "total": total}
        if self.taken_over or self._leave():
            self.left = not self.taken_over
            raise KeyboardInterrupt

    def release(self) -> None:
        """Stop refreshing, and delete the file unless it is another's by now."""
        self._stop.set()
        self._thread.join()
        with self.lease.looking():
            if not self._lost():
                self.lease.release()

    def _lost(self) -> bool:
        """Somebody took over: this process was silent, and Slurm or a user said that it had ended."""
        now = self.lease.read()
        return now is not None and any(now.get(key) != self.owner[key] for key in ("host", "pid", "taken"))

    def _write(self) -> None:
        content = {**self.owner, "refreshed": time.time(), "progress": self.progress}
        temporary = self.lease.path.with_suffix(f".{os.getpid()}.part")
        try:
            temporary.write_text(json.dumps(content))
            temporary.replace(self.lease.path)
        finally:  # Ctrl-C may come in between
            temporary.unlink(missing_ok=True)

    def _refresh(self) -> None:
        while not self._stop.wait(REFRESH_SECONDS):
            try:
                with self.lease.looking(timeout=0):
                    lost = self._lost()
                    if not lost:
                        self._write()
                if lost or self._leave():
                    self.left, self.taken_over = not lost, lost
                    # Between steps `report` does it; a long step is cut short, except where SIGINT is ignored (a
                    # script's background command). And two must not write the same files.
                    _thread.interrupt_main()
                    return
            except (OSError, Timeout):
                # A full disk must not end the work that may free it; the owner stays known by its pid. And who holds
                # the lock looks at the lease right now.
                continue


@contextmanager
def held(
    lease: Lease, about: Mapping[str, Any] | None = None, leave: Callable[[], bool] = lambda: False
) -> Iterator[Holding | None]:
    """The lease for the length of a block; None when it cannot be had. Arguments: see `Lease.take`."""
    holding = lease.take(about, leave)
    try:
        yield holding
    finally:
        if holding is not None:
            holding.release()


def holder_state(lease: Lease) -> Holder:
    """Whether the owner still works: by process on this machine, else by the last refresh and by Slurm."""
    owner = lease.read()
    if owner is None:
        return "none"
    here = owner.get("host") == _host()
    if here and owner.get("boot") == _boot_id():
        return "alive" if _started(int(owner["pid"])) == owner.get("process_started") else "dead"
    silent = time.time() - float(owner.get("refreshed", 0))
    # A wrong clock, here or there: no refresh by it says that somebody lives.
    is_ahead = silent < -SILENT_SECONDS
    if not is_ahead and silent < QUIET_SECONDS:
        return "alive"
    if owner.get("slurm_job_id") is not None and _slurm_ended(owner):
        return "dead"
    if is_ahead:
        return "unknown"
    if silent < SILENT_SECONDS:
        return "alive"
    # This machine was started again since: a power cut ends its processes.
    return "dead" if here and _boot_id() else "unknown"


def is_mine_from_before(owner: dict[str, Any]) -> bool:
    """The owner is this process's own Slurm job before it was requeued."""
    job = os.environ.get("SLURM_JOB_ID")
    return job is not None and owner.get("slurm_job_id") == job and _restarts(owner) < _my_restarts()


def is_here(owner: Mapping[str, Any]) -> bool:
    """The owner is a process of this machine that still runs; its pid has not been given to another one."""
    if owner.get("host") != _host() or owner.get("boot") != _boot_id():
        return False
    started = _started(int(owner["pid"]))
    return started is not None and started == owner.get("process_started")


def _me() -> dict[str, Any]:
    pid = os.getpid()
    return {
        "host": _host(),
        "boot": _boot_id(),
        "pid": pid,
        "process_started": _started(pid),  # a pid alone may have been given to another process since
        "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
        "slurm_restarts": _my_restarts(),  # a requeued job keeps its id
        "user": os.getuid(),
        "taken": time.time(),
    }


def _host() -> str:
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def _my_restarts() -> int:
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0)


def _restarts(owner: dict[str, Any]) -> int:
    return int(owner.get("slurm_restarts") or 0)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process started, as the kernel counts; None when there is no such process, or only its zombie."""
    try:
        # The name in parentheses may contain spaces: count fields after it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]


def _slurm_ended(owner: dict[str, Any]) -> bool:
    """True only when it is certain: a silent Slurm, or another user's job, says nothing."""
    if is_mine_from_before(owner):
        return True
    if owner.get("user") != os.getuid():
        return False  # other users' jobs may be hidden
    try:
        job = next((job for job in slurm_jobs() if job.job_id == owner["slurm_job_id"]), None)
    except FailureError:
        return False
    return job is None or job.state == "PENDING" or job.restarts > _restarts(owner)
