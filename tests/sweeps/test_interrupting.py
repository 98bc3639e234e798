"""A signal while modules are imported waits for them; Ctrl-C again, and the process leaves."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# As C code does it that is imported: whatever was raised becomes an ImportError.
SLOW = """
import _thread, threading, time
try:
    print("importing", flush=True)
    {begin}
    for _ in range({steps}):
        time.sleep(0.01)
except BaseException as error:
    raise ImportError("swallowed") from error
print("imported", flush=True)
"""
PROGRAM = """
import signal, time
from sweeps.dispatch.local import _leave
from sweeps.store.signals import interrupt

signal.signal(signal.SIGINT, {handler})
signal.signal(signal.SIGTERM, _leave)
{before}
try:
    import slow
    for _ in range(1000):
        time.sleep(0.01)
except KeyboardInterrupt:
    print("interrupted")
"""
BLOCKED = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])"
LEASE_LOST = "threading.Timer(0.05, _thread.interrupt_main).start()"


def _program(
    folder: Path, steps: int, handler: str = "interrupt", begin: str = "", before: str = ""
) -> subprocess.Popen[str]:
    """It is importing a module for `steps` hundredths of a second."""
    (folder / "slow.py").write_text(SLOW.format(steps=steps, begin=begin))
    (folder / "program.py").write_text(PROGRAM.format(handler=handler, before=before))
    command = [sys.executable, str(folder / "program.py")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    return process


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM] * 3], ids=["Ctrl-C", "a launcher"])
def test_the_import_is_finished_first(signals: list[signal.Signals], tmp_path: Path) -> None:
    """A launcher asks its workers three times; theirs is the handler that goes on waiting."""
    with _program(tmp_path, 40) as process:
        for number in signals:
            process.send_signal(number)
        assert process.communicate(timeout=30) == ("imported\ninterrupted\n", "")


def test_in_a_worker_whose_lease_is_lost(tmp_path: Path) -> None:
    """Its launcher made it block SIGINT; the interruption comes from a thread."""
    with _program(tmp_path, 40, begin=LEASE_LOST, before=BLOCKED) as process:
        assert process.communicate(timeout=30) == ("imported\ninterrupted\n", "")


@pytest.mark.parametrize(
    "call",
    [
        "sys.argv = ['worker', 'nowhere', 'runs', '0']; from sweeps.dispatch.worker import main; main()",
        "from sweeps.dispatch.local import local_work; local_work('nowhere.json', 1, None)",
    ],
    ids=["Slurm", "local"],
)
def test_workers_wait_for_imports(call: str, tmp_path: Path) -> None:
    """The handler that a worker has when it fails for want of a job."""
    ended = "import signal, sys; sys.excepthook = lambda *_: print(signal.getsignal(signal.SIGINT).__name__)"
    command = [sys.executable, "-c", f"{ended}\n{call}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "interrupt\n"), done.stderr


def test_asked_again_it_leaves(tmp_path: Path) -> None:
    """The second Ctrl-C of somebody who does not want to wait for ten seconds of imports."""
    with _program(tmp_path, 1000) as process:
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.01)
        assert process.communicate() == ("", "adadpo: interrupted\n")
    assert process.returncode == 130


def test_what_it_is_for(tmp_path: Path) -> None:
    """With Python's own handler the module that is imported has the exception."""
    with _program(tmp_path, 1000, "signal.default_int_handler") as process:
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1]
    assert said.endswith("ImportError: swallowed\n")
    assert process.returncode == 1
