"""Leases against real processes: one owner at a time, the dead are followed, the silent are left alone."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import pytest

from sweeps import lease as module
from sweeps.lease import SILENT_SECONDS, Lease, held, holder_state

HOLD = (
    "import sys, time; from pathlib import Path; from sweeps.lease import Lease\n"
    "held = Lease(Path(sys.argv[1])).take(); print(held is not None, flush=True); time.sleep(60)"
)


@pytest.fixture
def lease(tmp_path: Path) -> Lease:
    return Lease(tmp_path / "run" / "lease.json")


def holder(lease: Lease) -> subprocess.Popen[str]:
    """A process that took the lease."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, lease.path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    process.stdout.close()
    return process


def changed(lease: Lease, **owner: Any) -> None:
    """Rewrite what a lease says about its owner."""
    lease.path.parent.mkdir(parents=True, exist_ok=True)
    lease.path.write_text(json.dumps({**module._me(), "refreshed": time.time(), **owner}))


def test_one_owner_at_a_time(lease: Lease) -> None:
    """Taken, refused, released, taken; the file exists exactly while somebody holds it."""
    assert holder_state(lease) == "none"
    with held(lease) as first:
        assert first is not None
        assert holder_state(lease) == "alive"
        assert lease.take() is None
        owner = lease.read()
        assert owner is not None
        assert (owner["host"], owner["pid"]) == (socket.gethostname(), os.getpid())
    assert not lease.path.exists()
    with held(lease) as second:
        assert second is not None


def test_a_lease_is_released_when_the_work_fails(lease: Lease) -> None:
    """Whatever is raised."""
    with pytest.raises(KeyboardInterrupt), held(lease):
        raise KeyboardInterrupt
    assert holder_state(lease) == "none"


def _race(path: str, ready: Any, taken: Queue[int]) -> None:
    ready.wait()
    if Lease(Path(path)).take() is not None:
        taken.put(os.getpid())
    time.sleep(2)  # alive until all have tried


@pytest.mark.parametrize("dead_owner", [False, True])
def test_a_race_has_one_winner(lease: Lease, dead_owner: bool) -> None:
    """Eight processes at once, on a free lease and on that of a dead process."""
    if dead_owner:
        changed(lease, pid=2**22 + 1)  # above the largest pid of Linux
        assert holder_state(lease) == "dead"
    context = multiprocessing.get_context("forkserver")
    ready, taken = context.Barrier(8), context.Queue()
    processes = [context.Process(target=_race, args=(str(lease.path), ready, taken)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    winners = [taken.get(timeout=5)]
    assert taken.empty()
    assert winners[0] in [process.pid for process in processes]


def test_a_killed_owner_is_followed(lease: Lease) -> None:
    """kill -9: alive before, dead at once afterwards, without waiting for any time limit."""
    process = holder(lease)
    assert holder_state(lease) == "alive"
    assert lease.take() is None
    process.send_signal(signal.SIGKILL)
    while holder_state(lease) == "alive":  # the kernel needs a moment; its zombie is not alive
        time.sleep(0.01)
    assert holder_state(lease) == "dead"
    process.wait()
    with held(lease) as mine:
        assert mine is not None


def test_a_pid_given_to_another_process_is_not_the_owner(lease: Lease) -> None:
    """The same pid with another start time: a pid alone says nothing."""
    changed(lease)
    assert holder_state(lease) == "alive"
    changed(lease, process_started="1")
    assert holder_state(lease) == "dead"


@pytest.mark.parametrize(
    ("owner", "age", "expected"),
    [
        ({"host": "elsewhere"}, 0, "alive"),
        ({"host": "elsewhere"}, SILENT_SECONDS - 10, "alive"),
        ({"host": "elsewhere"}, SILENT_SECONDS + 10, "unknown"),  # cut off, not dead
        ({"host": "elsewhere"}, 1e9, "unknown"),
        ({"host": "elsewhere", "slurm_job_id": "17"}, 1e9, "unknown"),  # no squeue to ask
        ({"boot": "another"}, 0, "alive"),  # a second machine of this name?
        ({"boot": "another"}, SILENT_SECONDS + 10, "dead"),  # this machine was started again: a power cut
    ],
)
def test_owners_elsewhere(
    lease: Lease, monkeypatch: pytest.MonkeyPatch, owner: dict[str, Any], age: float, expected: str
) -> None:
    """By the last refresh; a silent one is unknown, and a lease that is unknown cannot be taken."""
    monkeypatch.setenv("PATH", "")
    changed(lease, **owner, refreshed=time.time() - age)
    assert holder_state(lease) == expected
    assert (lease.take() is None) is (expected != "dead")


@pytest.mark.parametrize(
    ("squeue", "expected"),
    [
        ("echo RUNNING", "unknown"),
        ("echo PENDING", "unknown"),
        ("true", "dead"),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", "dead"),  # Slurm 22.05
        ("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", "unknown"),
    ],
)
def test_slurm_decides_about_a_silent_job(
    lease: Lease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, squeue: str, expected: str
) -> None:
    """Answers of squeue; only a clear one ends an owner."""
    command = tmp_path / "bin" / "squeue"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\n{squeue}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=os.pathsep)
    changed(lease, host="elsewhere", slurm_job_id="17", refreshed=0)
    assert holder_state(lease) == expected


def test_a_lease_is_refreshed(lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time moves on and the progress is told, even after a refresh that a full disk refused."""
    monkeypatch.setattr(module, "REFRESH_SECONDS", 0.02)
    write, calls = module.Holding._write, []

    def failing_once(self: module.Holding) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        write(self)

    monkeypatch.setattr(module.Holding, "_write", failing_once)
    with held(lease) as holding:
        assert holding is not None
        first = lease.read()
        holding.report("train", 3, 8)
        deadline = time.monotonic() + 10
        while (now := lease.read()) is None or not now["progress"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert first is not None
    assert now["refreshed"] > first["refreshed"]
    assert now["progress"] == {"stage": "train", "done": 3, "total": 8}
