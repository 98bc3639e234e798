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
from filelock import FileLock

from sweeps.store import lease as module
from sweeps.store import slurm_queue
from sweeps.store.lease import QUIET_SECONDS, SILENT_SECONDS, Lease, held, holder_state
from tests.cluster.slurm_cluster import Cluster

HOLD = (
    "import sys, time; from pathlib import Path; from sweeps.store.lease import Lease\n"
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
        ({"host": "elsewhere"}, -60, "alive"),  # clocks differ a little
        ({"host": "elsewhere"}, -1e6, "unknown"),  # a clock that was wrong: not alive until that day comes
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


def slurm_says(lease: Lease, monkeypatch: pytest.MonkeyPatch, job: str, silent: float, **owner: Any) -> str:
    """The state of a lease whose owner is a job on another machine, by a fresh answer of squeue."""
    monkeypatch.setattr(slurm_queue, "_last", None)
    about = {"host": "elsewhere", "slurm_job_id": job, "refreshed": time.time() - silent}
    changed(lease, **{**about, **owner})
    return holder_state(lease)


def test_slurm_decides_about_a_silent_job(
    lease: Lease, slurm: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real job that runs, is requeued and is cancelled; the lease of its first start, and who else may own it."""
    submit = ("sbatch", "--parsable", "--requeue", "--output=/dev/null", "--wrap", "exec sleep 300")
    job = slurm.command(*submit).strip()
    slurm.wait(lambda: slurm.queue().get(job) == "RUNNING", 20)
    assert slurm_says(lease, monkeypatch, job, 0) == "alive"
    assert slurm_says(lease, monkeypatch, job, SILENT_SECONDS - 10) == "alive"
    assert slurm_says(lease, monkeypatch, job, SILENT_SECONDS + 10) == "unknown"  # it may be cut off
    slurm.command("scontrol", "requeue", job)
    slurm.wait(lambda: slurm.queue().get(job) == "PENDING", 20)
    assert (
        slurm_says(lease, monkeypatch, job, QUIET_SECONDS - 5) == "alive"
    )  # it may be newer than the answer
    assert slurm_says(lease, monkeypatch, job, QUIET_SECONDS + 1) == "dead"
    slurm.wait(lambda: slurm.queue().get(job) == "RUNNING", 30)
    assert slurm_says(lease, monkeypatch, job, QUIET_SECONDS + 1) == "dead"  # that start is over
    assert slurm_says(lease, monkeypatch, job, QUIET_SECONDS + 1, slurm_restarts=1) == "alive"
    slurm.command("scancel", job)
    slurm.wait_until_empty()
    assert slurm_says(lease, monkeypatch, job, QUIET_SECONDS + 1, slurm_restarts=1) == "dead"
    assert (
        slurm_says(lease, monkeypatch, job, 1e9, user=os.getuid() + 1) == "unknown"
    )  # may be hidden from us
    monkeypatch.setenv("PATH", "")
    assert slurm_says(lease, monkeypatch, job, SILENT_SECONDS - 10) == "alive"
    assert slurm_says(lease, monkeypatch, job, 1e9) == "unknown"  # a silent Slurm says nothing


def test_a_requeued_job_knows_its_own_earlier_start(lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without asking anybody: same job, fewer restarts; not while that start still refreshes."""
    monkeypatch.setenv("PATH", "")
    for name, value in (("SLURM_JOB_ID", "17"), ("SLURM_RESTART_COUNT", "2")):
        monkeypatch.setenv(name, value)
    assert slurm_says(lease, monkeypatch, "17", QUIET_SECONDS + 1, slurm_restarts=1) == "dead"
    assert slurm_says(lease, monkeypatch, "17", QUIET_SECONDS - 5, slurm_restarts=1) == "alive"
    assert slurm_says(lease, monkeypatch, "17", QUIET_SECONDS + 1, slurm_restarts=2) == "alive"
    assert slurm_says(lease, monkeypatch, "18", QUIET_SECONDS + 1, slurm_restarts=1) == "alive"


def test_an_owner_who_was_taken_for_dead_leaves(lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lease became another's while it was silent: it is interrupted, and does not delete what is not its own."""
    monkeypatch.setattr(module, "REFRESH_SECONDS", 0.02)

    def work() -> None:
        with held(lease):
            with FileLock(lease.path.with_suffix(".lock")):  # as whoever takes over
                changed(lease, host="elsewhere")
            for _ in range(500):  # one long sleep would be interrupted at its end
                time.sleep(0.02)

    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a script's background command ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
    finally:
        signal.signal(signal.SIGINT, before)
    owner = lease.read()
    assert owner is not None
    assert owner["host"] == "elsewhere"


def test_it_leaves_between_steps_where_sigint_is_ignored(
    lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a script's background command: nothing interrupts a step, so the next report of progress does."""
    monkeypatch.setattr(module, "REFRESH_SECONDS", 0.02)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with held(lease) as holding:
            assert holding is not None
            with FileLock(lease.path.with_suffix(".lock")):
                changed(lease, host="elsewhere")

            def work() -> None:
                for step in range(500):
                    time.sleep(0.02)
                    holding.report("train", step, 500)

            with pytest.raises(KeyboardInterrupt):
                work()
            assert not holding.left
    finally:
        signal.signal(signal.SIGINT, before)


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
